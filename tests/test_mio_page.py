"""docs/mio.md: what it names is there, and it names everything once."""

import ast
import builtins
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from program import ROOT, WINDOWS

import metalio
from metalio.io_source import IoSource

# What only another platform has.
ELSEWHERE = "unix" if sys.platform == "win32" else "windows"
PAGE = (ROOT / "docs" / "mio.md").read_text()
GENERATIONS = re.findall(r"^## (mio \d.*)$", PAGE, re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")


def rows(generation):
    """The rows of a generation's table, as lists of cells."""
    section = PAGE.split(f"\n## {generation}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[:2] == ["| module | name | in metalio |", "| --- | --- | --- |"]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


ROWS = {generation: rows(generation) for generation in GENERATIONS}
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
OURS = {name for name in QUOTED.findall(PROSE) if name == "metalio" or name.startswith("metalio.")}
OTHERS = {name for table in ROWS.values() for _, _, cell in table for name in QUOTED.findall(cell)} - OURS

NOT_ON_WINDOWS = re.compile(r"metalio\.(unix|net\.UnixDatagram)\.")


def declared(parts):
    """The same where the platform lacks the package: what its stubs declare, or the base class has."""
    package = Path(metalio.__file__).parent / ELSEWHERE
    classes = {
        node.name: {method.name for method in node.body if isinstance(method, ast.FunctionDef)} | set(dir(IoSource))
        for stub in package.glob("*.pyi")
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    if len(parts) > 2 and (parts[2] not in classes or not classes[parts[2]].issuperset(parts[3:])):
        raise AttributeError(f"{'.'.join(parts)}: no stub has it")


def resolve(path):
    """The object of a dotted path: a module of that name, or what is public in one."""
    if WINDOWS and NOT_ON_WINDOWS.match(path):
        pytest.skip("Windows has neither Unix datagrams nor descriptors")
    parts = path.split(".")
    if parts[1:2] == [ELSEWHERE]:
        return declared(parts)
    found = importlib.import_module(parts[0])
    for index, part in enumerate(parts[1:], start=1):
        if isinstance(found, ModuleType):
            try:
                found = importlib.import_module(".".join(parts[: index + 1]))
                continue
            except ModuleNotFoundError:
                pass
            if part not in getattr(found, "__all__", dir(found)):
                raise AttributeError(f"{path}: {found.__name__} has no public {part}")
        found = getattr(found, part)
    return found


def test_there_is_a_table_for_each_generation():
    assert GENERATIONS == ["mio 0.2", "mio 0.6", "mio 1.x"]
    counts = [sum(len(QUOTED.findall(names)) for _, names, _ in ROWS[generation]) for generation in GENERATIONS]
    # As many as the sources of each have: so none is lost unnoticed.
    assert counts == [260, 332, 190]


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_name_of_metalio_is_there(name):
    assert not any(re.match(r"_(?!_)", part) for part in name.split("."))
    resolve(name)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_else_the_tables_refer_to_is_there(name):
    """A literal, a built-in, or a name of the standard library."""
    try:
        ast.literal_eval(name)
    except ValueError:
        if not hasattr(builtins, name):
            resolve(name)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_row_is_complete(generation):
    for row in ROWS[generation]:
        assert len(row) == 3, row
        module, names, cell = row
        assert re.fullmatch(r"`mio(::\w+)*`|traits of std", module), row
        assert re.fullmatch(r"`[\w:<>]+`(, `[\w:<>]+`)*", names), row
        # Either where it has gone, or why it is not here.
        assert re.match(r"`metalio\.[\w.]+`", cell) or re.match(r"none( yet)?: \w.{9}|none( yet)?: `", cell), row


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_name_stands_once(generation):
    names = [(module, name) for module, names, _ in ROWS[generation] for name in QUOTED.findall(names)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_rows_of_a_module_stand_together(generation):
    modules = [module for module, _, _ in ROWS[generation]]
    changes = [module for before, module in zip([None, *modules], modules, strict=False) if module != before]
    assert len(changes) == len(set(changes))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_method_stands_with_its_type(generation):
    """In the same module: a type that went missing would be noticed."""
    names = {(module, name) for module, names, _ in ROWS[generation] for name in QUOTED.findall(names)}
    for module, name in names:
        if module != "traits of std" and "::" in name:
            assert (module, name.rpartition("::")[0]) in names, (module, name)


@pytest.mark.parametrize(
    "name",
    [
        "metalio.Pole",
        "metalio.Poll.pole",
        "metalio.pole.Poll",
        "metalio.net.tcp",
        "metalio.unix.pipe.os",
        "metalio.windows.Pipe",
    ],
)
def test_what_is_not_there_is_found_out(name):
    with pytest.raises(AttributeError):
        resolve(name)
