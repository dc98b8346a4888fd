"""What of the tests does not apply to Windows, each with a reason that is true of it.

Files first, then tests by their names, without parameters.  What does not exist (any more) is an error.
"""

FILES = {
    "test_bench.py": "the peers of the benchmarks, and the load generators in C, are those of Unix",
    "test_examples.py": "the example programs are ended by SIGTERM, which Windows does not send",
    "test_fork.py": "there is no fork on Windows",
    "test_load.py": "the demonstration raises the limit of open files, which Windows does not have",
    "test_cli.py": "the commands are tested on a terminal and ended by SIGTERM, neither of which Windows has",
    "test_pipe.py": "a pipe on Windows has no descriptor that could be polled",
    "test_source_fd.py": "descriptors are numbers of the C library on Windows, which the kernel does not know",
    "test_unix_datagram.py": "Windows has no Unix datagrams",
    "test_unix_listener.py": "metalio has no Unix sockets on Windows",
    "test_unix_stream.py": "metalio has no Unix sockets on Windows",
}

TESTS = {}
