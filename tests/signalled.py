"""Runs a Python program that gets its signals from standard input, a byte each: on Windows there is no other way.

    python tests/signalled.py -m MODULE … | -c CODE … | SCRIPT …

They come in a thread of their own, as those of Windows do.  A zero, and behind it the path of a file and the end of the
line, has the number of the program's sockets written to that file.
"""

import os
import runpy
import signal
import sys
import threading

import windows


def listen():
    while number := os.read(0, 1):
        if number == b"\0":
            answer()
        else:
            signal.raise_signal(number[0])


def answer():
    path = b""
    while (byte := os.read(0, 1)) != b"\n":
        path += byte
    with open(path + b".new", "w") as file:
        file.write(str(windows.count_sockets()))
    # It is there only once it is whole.
    os.rename(path + b".new", path)


def main():
    threading.Thread(target=listen, daemon=True).start()
    del sys.argv[0]
    # Where the interpreter would have put the folder of the script.
    sys.path[0] = os.getcwd()
    kind = sys.argv[0]
    if kind == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(kind))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
