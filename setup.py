"""Build the extension modules; everything else stands in pyproject.toml."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCE = Path("src")

# For which platform: another one than this is compiled for by tools/windows.
PLATFORM = os.environ.get("METALIO_PLATFORM", sys.platform)

# What only some platforms have; all else is for all of them.
ONLY = {
    "metalio._sys.afd": ["win32"],
    "metalio._sys.epoll": ["linux", "android"],
}
UNIX = {
    "metalio._sys.bell",
    "metalio._sys.poll",
    "metalio.net.unix_datagram",
    "metalio.net.unix_listener",
    "metalio.net.unix_stream",
    "metalio.unix.pipe",
}


def has(module):
    """Whether the platform has what a module needs."""
    name = ".".join(module.parts)
    return PLATFORM in ONLY[name] if name in ONLY else name not in UNIX or PLATFORM != "win32"


# What runs once an event, once a system call or once a registration is compiled: these are the modules that have
# their C declarations beside them in a .pxd file.  All the rest is plain Python.
MODULES = [
    module
    for module in sorted(
        path.with_suffix("").relative_to(SOURCE)
        for path in SOURCE.rglob("*.pxd")
        if path.with_suffix(".py").exists() and path.stem != "__init__"
    )
    if has(module)
]

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
libraries = []
macros = []
if PLATFORM == "win32":
    libraries = ["ws2_32", "ntdll"]
    # Windows 10, and no more of its headers than needed.
    macros = [("_WIN32_WINNT", "0x0A00"), ("WIN32_LEAN_AND_MEAN", None), ("NOMINMAX", None)]
else:
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
                libraries=libraries,
                define_macros=macros,
            )
            for module in MODULES
        ],
        compiler_directives=DIRECTIVES,
        nthreads=0,
        annotate=bool(os.environ.get("METALIO_ANNOTATE")),
    )
)
