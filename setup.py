"""Build the extension modules; everything else stands in pyproject.toml."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCE = Path("src")

# What runs once an event, once a system call or once a registration is compiled: these are the modules that have
# their C declarations beside them in a .pxd file.  All the rest is plain Python.
COMPILED = sorted(
    path.with_suffix("").relative_to(SOURCE)
    for path in SOURCE.rglob("*.pxd")
    if path.with_suffix(".py").exists() and path.stem != "__init__"
)

# Which platforms (values of sys.platform, without a version behind them) have what not all of them have.  For tests
# Linux can have kqueue as well: METALIO_KQUEUE is a directory with include/sys/event.h and lib/libkqueue.so.
LINUX = ("linux", "android")
BSD = ("darwin", "ios", "freebsd", "netbsd", "openbsd", "dragonfly")
EMULATED = Path(os.environ["METALIO_KQUEUE"]) if "METALIO_KQUEUE" in os.environ else None
ONLY = {
    Path("metalio/_sys/epoll"): LINUX,
    Path("metalio/_sys/kqueue"): (*BSD, *LINUX) if EMULATED else BSD,
}


def modules(platform):
    """The modules that are compiled on a platform."""
    return [module for module in COMPILED if module not in ONLY or platform.startswith(ONLY[module])]


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


def extension(module):
    options = {}
    if EMULATED and module.name == "kqueue":
        options["include_dirs"] = [str(EMULATED / "include")]
        options["library_dirs"] = options["runtime_library_dirs"] = [str(EMULATED / "lib")]
        options["libraries"] = ["kqueue"]
    return Extension(
        ".".join(module.parts),
        [str(SOURCE / module.with_suffix(".py"))],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        **options,
    )


# tools/check-platforms imports this file, for the names above.
if __name__ == "__main__":
    setup(
        ext_modules=cythonize(
            [extension(module) for module in modules(sys.platform)],
            compiler_directives=DIRECTIVES,
            nthreads=0,
            annotate=bool(os.environ.get("METALIO_ANNOTATE")),
        )
    )
