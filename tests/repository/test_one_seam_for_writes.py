"""Every write goes through storage/atomic_files.py, which follows no link: this finds any other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEAM = ROOT / "phasetrack/storage/atomic_files.py"
SOURCES = [file for room in ("phasetrack", "cli") for file in sorted((ROOT / room).rglob("*.py"))]
# Methods that write to a name, or make one, and follow a link there.
WRITING = {"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "rename", "tofile"}
# Functions that write to their first or second argument, which must be a file in memory.
SAVING = {"save": 1, "savez": 0, "savez_compressed": 0, "savefig": 0, "to_csv": 0, "write_table": 1}
READING = {"r", "rb", "rt", "br"}


def other_writes(source):
    """The calls in a module that may write to a name by themselves, as pairs of line and code."""
    tree = ast.parse(source)
    in_memory = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(word in ast.unparse(node.value) for word in ("BytesIO", "StringIO", "BufferOutput"))
        for each in node.targets
        for target in ast.walk(each)
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _writes(node, in_memory):
            yield node.lineno, ast.unparse(node)


def _writes(call, in_memory):
    function, text = call.func, ast.unparse(call.func)
    name = function.attr if isinstance(function, ast.Attribute) else text
    given = [*call.args, *(word.value for word in call.keywords)]
    if name in WRITING or text in ("os.write", "os.replace", "os.rename", "os.link", "os.symlink"):
        return True
    if text.startswith("shutil.copy") or text == "shutil.move":
        return True
    if (text == "os.open" and "os.devnull" not in ast.unparse(call)) or name == "FileIO":
        return any("O_WRONLY" in ast.unparse(a) or "O_RDWR" in ast.unparse(a) for a in given)
    if name == "open" and not any(word.arg == "fileobj" for word in call.keywords):
        place = 1 if isinstance(function, ast.Name) or text == "io.open" else 0
        modes = [w.value for w in call.keywords if w.arg == "mode"] or call.args[place : place + 1]
        # an `open` of ours, such as a folder's, takes no mode
        return any(
            isinstance(m, ast.Constant) and isinstance(m.value, str) and not _reads(m.value)
            for m in modes
        )
    if name in SAVING and text != "self.save" and len(given) > SAVING[name]:
        target = given[SAVING[name]]
        known = isinstance(target, ast.Name) and target.id in in_memory
        saves = text.split(".")[0] in ("torch", "np", "numpy", "parquet") or name == "savefig"
        return saves and not known
    return False


def _reads(mode):
    return mode in READING or not set(mode) <= set("rwaxbt+")


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('x')",
        "path.write_bytes(b'x')",
        "open(path, 'w')",
        "open(path, mode='a')",
        "path.open('wb')",
        "os.open(path, os.O_WRONLY)",
        "figure.savefig(path)",
        "torch.save(state, path)",
        "np.savez(path, x=x)",
        "shutil.copyfile(a, b)",
        "os.replace(a, b)",
        "(folder / 'x').touch()",
    ],
)
def test_a_write_of_any_kind_is_found(line):
    assert [code for _, code in other_writes(line)]


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'rb')",
        "path.open()",
        "store.open(name)",
        "content = io.BytesIO()\ntorch.save(state, content)",
        "os.open(path, os.O_RDONLY)",
    ],
)
def test_a_reading_call_is_no_write(line):
    assert not [code for _, code in other_writes(line)]


def test_no_write_bypasses_the_one_module_that_follows_no_link():
    found = {
        f"{file.relative_to(ROOT)}:{line}: {code}"
        for file in SOURCES
        if file != SEAM
        for line, code in other_writes(file.read_text())
    }
    # the figure of `write_figure`, whose callers give it a file in memory
    assert found == {
        f for f in found if f.startswith("phasetrack/display/drawing.py") and "savefig" in f
    }
