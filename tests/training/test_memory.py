"""How many samples are held at once."""

import os
import platform
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasetrack.training import memory

SIZES = st.integers(1, 2**20)


@given(SIZES, SIZES, SIZES, st.none() | st.integers(1, 2**45))
def test_pieces_fit_and_are_as_few_as_can_be(d, width, batch, total):
    piece = memory.micro_batch(d, width, batch, total)
    assert 1 <= piece <= batch
    budget = memory.PIECE_BYTES if total is None else min(memory.PIECE_BYTES, total / 8)
    each = memory.bytes_per_sample(d, width)
    assert piece == 1 or piece * each <= budget
    # with one piece fewer the largest would not fit
    pieces = -(-batch // piece)
    fewer = -(-batch // max(1, pieces - 1))
    assert pieces == 1 or fewer * each > budget


@pytest.mark.parametrize("batch", [2**14, 2**16, 2**20])
def test_what_is_held_does_not_grow_with_the_batch(batch):
    held = memory.micro_batch(65_536, 512, batch, 24 * 2**30) * memory.bytes_per_sample(65_536, 512)
    assert 0.9 * 2**30 < held <= 2**30


def test_canonical_sizes_are_not_split():
    for d, batch in [(512, 8192), (4096, 16384)]:
        assert memory.micro_batch(d, 512, batch, 8 * 2**30) == batch


def test_a_container_has_what_it_is_given(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUP_LIMIT", limit)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.host_memory() == physical  # no such file
    for text, expected in [("max\n", physical), ("1048576\n", 2**20), (str(2**62), physical)]:
        limit.write_text(text)
        assert memory.host_memory() == expected


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP_LIMIT", tmp_path / "none")
    monkeypatch.delattr(os, "sysconf")
    assert memory.host_memory() is None
    assert memory.micro_batch(8, 8, 100, None) == 100


FREEING = """
    import resource, sys, torch
    from phasetrack.training.memory import keep_freed
    if sys.argv[1] == "kept":
        keep_freed()
    def step():
        held = [torch.ones(2**20) for _ in range(30)]
    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        step()
    before = faults()
    for _ in range(20):
        step()
    print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is asked")
def test_what_a_step_frees_is_there_for_the_next():
    # of itself glibc gives it back in some processes and not in others
    giving = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}

    def faults(how):
        words = [sys.executable, "-c", textwrap.dedent(FREEING), how]
        environment = os.environ | giving
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        return int(done.stdout)

    assert faults("kept") < faults("given back") / 10
