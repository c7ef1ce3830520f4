"""The run's own samples: each once, and samples that come again."""

import pytest
import torch

from phasetrack.tracking.reservoir import MOST_NUMBERS, MOST_SAMPLES, Reservoir, reservoir_size


def fresh(count, step=0, d=10):
    draw = torch.Generator().manual_seed(step)
    return torch.randn(count, d, generator=draw), torch.arange(count) + 1000 * step


def test_the_first_distinct_samples_are_kept_with_their_targets():
    reservoir = Reservoir(100)
    (x, y), (more, others) = fresh(60), fresh(60, step=1)
    reservoir.offer(torch.cat([x, x[:5]]), torch.cat([y, y[:5]]))
    reservoir.offer(more, others)
    assert torch.equal(reservoir.inputs, torch.cat([x, more[:35]]))
    assert reservoir.targets.tolist() == [*y.tolist(), *others[:35].tolist()]
    assert reservoir.left == 0 and reservoir.kept == 95


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_epochs_over_a_training_set_are_noticed(batch):
    x, y = fresh(2000)
    reservoir = Reservoir(200)
    places = [torch.arange(i, i + batch) % len(x) for i in range(0, 2 * len(x), batch)]
    for chosen in places[: len(places) // 3]:
        reservoir.offer(x[chosen], y[chosen])
    assert reservoir.population == float("inf")
    for chosen in places[len(places) // 3 :]:
        reservoir.offer(x[chosen], y[chosen])
    # the set is gone over in order, so that the reservoir comes again all at once
    assert reservoir.population <= len(x)


@pytest.mark.parametrize("bits", [12, 16])
def test_samples_of_few_bits_come_from_a_population_of_as_many(bits):
    reservoir, draw = Reservoir(1000), torch.Generator().manual_seed(0)
    for _ in range(300):
        x = torch.randint(0, 2, (64, bits), generator=draw).float()
        reservoir.offer(x, x[:, 0])
    # the largest of the shares seen: at most a few times fewer
    assert 2**bits / 4 < reservoir.population <= 1.2 * 2**bits


def test_the_size_is_bounded_in_numbers():
    assert reservoir_size(64) == MOST_SAMPLES
    assert reservoir_size(100_000) * 100_000 <= MOST_NUMBERS


def test_a_restored_one_goes_on_as_the_first():
    one = Reservoir(100)
    one.offer(*fresh(60))
    other = Reservoir(100).restored(one.state_dict())
    for reservoir in (one, other):
        reservoir.offer(*fresh(60))
        reservoir.offer(*fresh(60, step=1))
    assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
