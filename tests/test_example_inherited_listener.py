"""examples/inherited_listener.py, talked to over real sockets."""

import re
import socket

from example import LOOPBACK, announced, start
from program import (
    Program,
    connect,
    receive_all,
)


class TestInheritedListener:
    TIME = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n"
    # What a service manager does between fork and exec: argv holds the descriptors, then the program.
    MANAGER = """
import os, sys
count = int(sys.argv[1])
for number, fd in enumerate(map(int, sys.argv[2 : 2 + count])):
    os.dup2(fd, 103 + number)
for number in range(count):
    os.dup2(103 + number, 3 + number)
os.environ["LISTEN_FDS"] = str(count)
os.environ["LISTEN_PID"] = {pid}
os.execv(sys.executable, [sys.executable, "-W", "always", *sys.argv[2 + count :]])
"""

    def manage(self, listeners, *arguments, pid="str(os.getpid())"):
        numbers = [listener.fileno() for listener in listeners]
        script = self.MANAGER.format(pid=pid)
        command = ("-c", script, len(numbers), *numbers, "examples/inherited_listener.py", *arguments)
        return Program(*command, pass_fds=numbers)

    def test_listeners_of_a_service_manager(self, tmp_path):
        path = str(tmp_path / "time")
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
            unix.bind(path)
            unix.listen()
            address = tcp.getsockname()
            # It may have come before the server has.
            with connect(address) as early, self.manage([tcp, unix]) as program:
                assert [announced(program), announced(program)] == [address, path]
                assert re.fullmatch(self.TIME, receive_all(early))
                for target, family in ((address, socket.AF_INET), (path, socket.AF_UNIX)):
                    with connect(target, family) as client:
                        assert re.fullmatch(self.TIME, receive_all(client))
                program.stop()

    def test_listeners_for_another_process(self):
        with socket.create_server(("127.0.0.1", 0)) as tcp, self.manage([tcp], LOOPBACK, pid="'1'") as program:
            address = announced(program)
            assert address != tcp.getsockname()
            with connect(address) as client:
                assert re.fullmatch(self.TIME, receive_all(client))
            program.stop()

    def test_without_a_service_manager(self):
        with start("inherited_listener.py", LOOPBACK) as program:
            with connect(announced(program)) as client:
                assert re.fullmatch(self.TIME, receive_all(client))
            program.stop()
