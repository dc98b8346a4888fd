"""The commands of `python -m metalio`, one a file: `add_parser(subparsers)` and a function that runs it."""
