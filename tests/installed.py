"""Say which metalio is about to be tested; refuse any but one that is installed, and whole.

python tests/installed.py
"""

import importlib
import sys
import sysconfig
import warnings
from importlib.metadata import version
from pathlib import Path

import metalio

HERE = Path(metalio.__file__).parent
INSTALLED = Path(sysconfig.get_path("platlib"), "metalio")


def main():
    if not INSTALLED.exists() or not HERE.samefile(INSTALLED):
        sys.exit(f"what would be tested is not installed, but in {HERE}")
    # A module that has to have the GIL says so.
    warnings.simplefilter("error")
    compiled = compiled_modules()
    assert "metalio.poll" in compiled, f"only these are compiled: {compiled}"
    for name in compiled:
        importlib.import_module(name)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled()
    print(f"metalio {version('metalio')}, {len(compiled)} compiled modules, installed in {HERE}", flush=True)
    print(f"Python {sys.version}", flush=True)


def compiled_modules():
    """The names of all extension modules of metalio."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    files = [path.relative_to(HERE.parent) for path in HERE.rglob(f"*{suffix}")]
    return [".".join([*path.parts[:-1], path.name.removesuffix(suffix)]) for path in sorted(files)]


if __name__ == "__main__":
    main()
