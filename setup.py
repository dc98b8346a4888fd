"""Build the extension modules; everything else stands in pyproject.toml."""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path("src")

# For which platform: another one than this is compiled for by tools/windows.  "posix" is one that has what POSIX has,
# and no more: tools/test-fallback takes it for a system that nobody has thought of.
PLATFORM = os.environ.get("METALIO_PLATFORM", sys.platform)

# What runs once an event, once a system call or once a registration is compiled: these are the modules that have
# their C declarations beside them in a .pxd file.  All the rest is plain Python.
COMPILED = sorted(
    path.with_suffix("").relative_to(SOURCE)
    for path in SOURCE.rglob("*.pxd")
    if path.with_suffix(".py").exists() and path.stem != "__init__"
)

# Which platforms (values of sys.platform, without a version behind them) have what not all of them have, and what only
# Windows does not have.  For tests Linux can have kqueue as well: METALIO_KQUEUE is a directory with
# include/sys/event.h and lib/libkqueue.so.
LINUX = ("linux", "android")
BSD = ("darwin", "ios", "freebsd", "netbsd", "openbsd", "dragonfly")
KNOWN = (*LINUX, *BSD, "win32", "posix")
EMULATED = Path(os.environ["METALIO_KQUEUE"]) if "METALIO_KQUEUE" in os.environ else None
KQUEUE = (*BSD, *LINUX) if EMULATED else BSD
EPOLL = Path("metalio/_sys/epoll")
ONLY = {
    Path("metalio/_sys/afd"): ("win32",),
    EPOLL: LINUX,
    Path("metalio/_sys/console_signals"): ("win32",),
    Path("metalio/_sys/kqueue"): KQUEUE,
    Path("metalio/_sys/pipes"): ("win32",),
    Path("metalio/_sys/port_source"): ("win32",),
    Path("metalio/_sys/process_filter"): KQUEUE,
    Path("metalio/_sys/process_handle"): ("win32",),
    Path("metalio/windows/named_pipe"): ("win32",),
}
UNIX = {
    Path("metalio/_sys/bell"),
    Path("metalio/_sys/poll"),
    Path("metalio/_sys/signals"),
    Path("metalio/_sys/unix_signals"),
    Path("metalio/net/unix_datagram"),
    Path("metalio/unix/pipe"),
}


def modules(platform):
    """The modules that are compiled on a platform."""
    return [module for module in COMPILED if applies(module, platform)]


def applies(module, platform):
    if module in UNIX:
        return platform != "win32"
    if module not in ONLY or platform.startswith(ONLY[module]):
        return True
    # A platform that is not named above is asked: illumos has epoll, and Solaris goes by the same name (sunos5).
    return module == EPOLL and not platform.startswith(KNOWN) and has_headers("epoll", "eventfd", "timerfd")


def has_headers(*names):
    """Whether the C compiler finds <sys/NAME.h> for all of these."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    source = "".join(f"#include <sys/{name}.h>\n" for name in names)
    try:
        done = subprocess.run([*compiler, "-E", "-"], input=source.encode(), capture_output=True)
    except OSError as error:
        sys.exit(f"cannot run the C compiler: {error}")
    return done.returncode == 0


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

# Windows 10, and no more of its headers than needed.
WINDOWS_MACROS = [("_WIN32_WINNT", "0x0A00"), ("WIN32_LEAN_AND_MEAN", None), ("NOMINMAX", None)]

compile_args = []
link_args = []
libraries = []
macros = []
if PLATFORM == "win32":
    libraries = ["ws2_32", "ntdll"]
    macros = WINDOWS_MACROS
else:
    compile_args = ["-O3", "-fno-semantic-interposition"]
if PLATFORM.startswith("sunos"):
    libraries = ["socket", "nsl"]
if PLATFORM == "posix":
    # So that nothing in a .pxd file takes it for what it is.
    compile_args += ["-U__linux__"]
if sanitizers := os.environ.get("METALIO_SANITIZE"):
    # -O1 keeps the reports' stacks readable; recovering from undefined behaviour would hide it.
    flags = [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
    compile_args = ["-O1", "-g", *flags]
    link_args = flags


def extension(module):
    options = {}
    if EMULATED and ONLY.get(module) is KQUEUE:
        options["include_dirs"] = [str(EMULATED / "include")]
        options["depends"] = [str(EMULATED / "include/sys/event.h")]
        options["library_dirs"] = options["runtime_library_dirs"] = [str(EMULATED / "lib")]
        options["libraries"] = ["kqueue"]
    else:
        options["libraries"] = libraries
    return Extension(
        ".".join(module.parts),
        [str(SOURCE / module.with_suffix(".py"))],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=macros,
        **options,
    )


class Build(build_ext):
    """Makes C of the modules first; only where something is built, which an sdist is not."""

    def build_extensions(self):
        made = cythonize(
            self.extensions,
            compiler_directives=DIRECTIVES,
            nthreads=0,
            annotate=bool(os.environ.get("METALIO_ANNOTATE")),
        )
        sources = {one.name: one.sources for one in made}
        for one in self.extensions:
            one.sources = sources[one.name]
        super().build_extensions()


# Tools import this file, for the names above.
if __name__ == "__main__":
    setup(
        ext_modules=[extension(module) for module in modules(PLATFORM)],
        cmdclass={"build_ext": Build},
        # As many at a time as there are processors, unless -j says otherwise.
        options={"build_ext": {"parallel": os.cpu_count() or 1}},
    )
