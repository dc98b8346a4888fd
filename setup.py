"""Build the extension modules; everything else stands in pyproject.toml."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCE = Path("src")

# What runs once an event, once a system call or once a registration is compiled: these are the modules that have
# their C declarations beside them in a .pxd file.  All the rest is plain Python.
MODULES = sorted(
    path.with_suffix("").relative_to(SOURCE)
    for path in SOURCE.rglob("*.pxd")
    if path.with_suffix(".py").exists() and path.stem != "__init__"
)

DIRECTIVES = {
    "language_level": 3,
    "freethreading_compatible": True,
    "boundscheck": False,
    "initializedcheck": False,
    "nonecheck": False,
    "cdivision": True,
    "auto_pickle": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "binding": False,
}

compile_args = []
link_args = []
if sys.platform != "win32":
    compile_args = ["-O3", "-fno-semantic-interposition"]
if sanitizers := os.environ.get("METALIO_SANITIZE"):
    # -O1 keeps the reports' stacks readable; recovering from undefined behaviour would hide it.
    flags = [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
    compile_args = ["-O1", "-g", *flags]
    link_args = flags

setup(
    ext_modules=cythonize(
        [
            Extension(
                ".".join(module.parts),
                [str(SOURCE / module.with_suffix(".py"))],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
            for module in MODULES
        ],
        compiler_directives=DIRECTIVES,
        nthreads=0,
        annotate=bool(os.environ.get("METALIO_ANNOTATE")),
    )
)
