"""examples/unix_server.py, talked to over real sockets."""

import os
import socket

from example import announced, start
from program import (
    connect,
    receive_all,
)
from util import needs_peer_cred


class TestUnixServer:
    @needs_peer_cred
    def test_it_knows_who_calls(self, tmp_path):
        path = str(tmp_path / "who")
        with start("unix_server.py", path) as program:
            assert announced(program) == path
            with connect(path, socket.AF_UNIX) as client:
                client.sendall(b"is anybody there?")
                client.shutdown(socket.SHUT_WR)
                expected = f"you are user {os.geteuid()}, group {os.getegid()}, process {os.getpid()}\n"
                assert receive_all(client) == expected.encode()
            program.stop()
        assert not os.path.exists(path)
