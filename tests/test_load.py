"""The programs behind `make demo` and `make load`: every byte verified, nothing lost, no descriptor left."""

import re
import sys

import pytest
from program import ROOT, WINDOWS, Program, unix_sockets
from util import WINE

sys.path.insert(0, str(ROOT / "demo"))
import demo
import drive

if not WINDOWS:
    import resource

# Wine has one process that everything goes through.
CONNECTIONS = 500 if WINE else 5_000


def test_thousands_of_connections(selector):
    with Program("demo/demo.py", "--load", CONNECTIONS, "--selector", selector) as program:
        output = program.rest()
        assert (program.process.returncode, program.stderr()) == (0, "")
    found = re.search(r"^([\d,]+) connections, ([\d,]+) messages, [\d,]+ bytes, all verified: ", output, re.MULTILINE)
    connections, messages = (int(number.replace(",", "")) for number in found.groups())
    limit = float("inf")
    if not WINDOWS and (hard := resource.getrlimit(resource.RLIMIT_NOFILE)[1]) != resource.RLIM_INFINITY:
        limit = hard
    if limit >= CONNECTIONS + demo.SPARE:
        assert connections == CONNECTIONS
    else:
        # It says itself that it did less, and why.
        assert connections == limit - demo.SPARE
        assert f"only {connections:,} connections: the limit of open files is {limit:,}\n" in output
    assert messages == 8 * connections
    assert f"server: served {connections:,} connections" in output


def test_fewer_where_the_limit_is_low():
    command = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    command += "sys.argv.pop(0); sys.path[0] = 'demo'; runpy.run_path(sys.argv[0], run_name='__main__')"
    with Program("-c", command, "demo/demo.py", "--load", CONNECTIONS) as program:
        assert program.line() == "only 36 connections: the limit of open files is 100"
        assert program.line().startswith("36 connections, 288 messages, ")
        program.rest()
        assert (program.process.returncode, program.stderr()) == (0, "")


def test_demo(selector):
    with Program("demo/demo.py", "--seconds", "0.3", "--selector", selector) as program:
        transports = {"tcp": 64, "unix": 64, "udp": 8}
        if not unix_sockets():
            del transports["unix"]
        for name, connections in transports.items():
            assert re.fullmatch(
                rf"{name} +{connections} connections, [\d,]+ messages, [\d,]+ bytes, all verified: "
                r"[\d,]+ messages/s, [\d,]+ MB/s each way",
                program.line(),
            )
        assert program.line().startswith(f"server: served {sum(transports.values()) - 8} connections, ")
        program.rest()
        assert (program.process.returncode, program.stderr()) == (0, "")


LIAR = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print("tcp 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
def serve(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(eval(sys.argv[1])(data))
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("lambda data: data", None),
        ("lambda data: data[:-1] + bytes([data[-1] ^ 1])", "wrong bytes"),
        ("lambda data: data[::-1] if len(set(data)) > 1 else b'x' + data", "wrong bytes"),
        ("lambda data: data + data[:1]", "wrong bytes|after the last|in message"),
        ("lambda data: sys.exit()", "closed in message"),
        ("lambda data: b''", "something is lost"),
    ],
)
def test_what_is_wrong_is_found(answer, complaint, monkeypatch):
    """The driver against servers that do not echo."""
    monkeypatch.setattr(drive, "PATIENCE", 0.5)
    with Program("-c", LIAR, answer) as server:
        address = server.line().split()[1]
        load = drive.Drive(drive.connect_tcp(address), connections=4, largest=1000, messages=3)
        if complaint is None:
            totals = load.run()
            assert (totals.connections, totals.messages) == (4, 12)
        else:
            with pytest.raises((drive.Mismatch, OSError), match=complaint):
                load.run()


def test_nobody_to_drive():
    with pytest.raises(ConnectionRefusedError):
        drive.Drive(drive.connect_tcp("127.0.0.1:1"), connections=1, largest=10, messages=1).run()
