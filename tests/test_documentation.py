"""What the documents print runs as it is printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from program import PATIENCE, ROOT, Program

import metalio
from metalio.__main__ import main

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL = [*DOCUMENTS, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]


HERE = "windows" if sys.platform == "win32" else "unix"


def blocks(path, language):
    """The code blocks of a document that are marked as of this language, without those for other platforms."""
    found = re.findall(rf"^```{language}(?: (\w+))?\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    assert {platform for platform, _ in found} <= {"", "unix", "windows"}
    return [code for platform, code in found if platform in ("", HERE)]


def test_the_quick_start_runs_as_printed(tmp_path):
    (printed,) = blocks(ROOT / "README.md", "python")
    script = tmp_path / "quickstart.py"
    script.write_text(printed)
    with Program(script) as program:
        lines = program.rest().splitlines()
        assert lines[-1] == "client: the server closed the connection"
        assert (program.process.returncode, program.stderr()) == (0, "")
    assert printed == (ROOT / "examples" / "quickstart.py").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_code_of_a_document_runs(path, tmp_path):
    """Its blocks are one program."""
    if path.name == "windows.md" and sys.platform != "win32":
        pytest.skip("it is about what only Windows has")
    script = tmp_path / "blocks.py"
    script.write_text("\n\n".join(blocks(path, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), target


def test_paths_and_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for path in ALL:
        text = path.read_text()
        for target in re.findall(r"\bmake ([a-z]+)`|^\$ make ([a-z]+)$", text, re.MULTILINE):
            assert f"\n{''.join(target)}:" in makefile, target
        for name in re.findall(r"`((?:examples|demo|tests|docs)/[\w/.]+\w)`", text):
            assert (ROOT / name).exists(), name
        # The package may be installed, without the sources being here.
        for name in re.findall(r"`src/(metalio/[\w/.]+\w)`", text):
            assert (Path(metalio.__file__).parent.parent / name).exists(), name


def test_the_changelog_names_everything_public():
    text = (ROOT / "CHANGELOG.md").read_text()
    for name in metalio.__all__:
        if not name.startswith("_"):
            assert f"`{name}`" in text


def test_commands(capsys):
    """The commands that the README shows are there."""
    for command in re.findall(r"python -m metalio (\w+)", (ROOT / "README.md").read_text()):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
    capsys.readouterr()


def test_nothing_speaks_of_this_machine():
    for path in ALL:
        assert not re.search(r"/(work|root|home)/", path.read_text())
