"""The command line: `python -m metalio`."""

import argparse
import importlib
import sys

from metalio._version import __version__

_COMMANDS = ("info", "echo", "bench")


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m metalio", description="Metal I/O for Python")
    parser.add_argument("--version", action="version", version=f"metalio {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for command in _COMMANDS:
        importlib.import_module(f"metalio.cli.{command}").add_parser(subparsers)
    namespace = parser.parse_args(argv)
    return namespace.run(namespace)


if __name__ == "__main__":
    sys.exit(main())
