"""What all examples do."""

import os
import signal
from importlib.util import find_spec

import pytest
from example import LOOPBACK, announced, start
from program import ROOT, WINDOWS, Program, unix_sockets

needs_unix_sockets = pytest.mark.skipif(not unix_sockets(), reason="this system has no Unix sockets")
needs_wsproto = pytest.mark.skipif(find_spec("wsproto") is None, reason="wsproto is not installed")


@pytest.mark.parametrize("number", [signal.SIGINT] if WINDOWS else [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("tcp_server.py", [LOOPBACK]),
        ("udp_server.py", [LOOPBACK]),
        pytest.param("unix_server.py", ["{path}"], marks=needs_unix_sockets),
        ("inherited_listener.py", [LOOPBACK]),
        ("tcp_proxy.py", [LOOPBACK, "127.0.0.1:1"]),
        ("http_server.py", [LOOPBACK]),
        ("idle_reaper.py", [LOOPBACK]),
        ("chat_server.py", [LOOPBACK]),
        ("event_loop_echo.py", [LOOPBACK]),
        ("asyncio_echo.py", [LOOPBACK]),
        pytest.param("websocket_echo.py", [LOOPBACK], marks=needs_wsproto),
    ],
)
def test_stops_on_signals(name, arguments, number, tmp_path):
    path = str(tmp_path / "socket")
    with start(name, *(argument.format(path=path) for argument in arguments)) as program:
        announced(program)
        assert program.stop(number) == ""
    assert not os.path.exists(path)


def test_every_example_is_tested():
    for path in (ROOT / "examples").glob("*.py"):
        assert path.stem == "quickstart" or (ROOT / "tests" / f"test_example_{path.stem}.py").exists()


def test_quickstart():
    with Program("examples/quickstart.py") as program:
        lines = program.rest().splitlines()
        assert sorted(lines[:-1]) == ["client: connected", "server: dropped the connection from 127.0.0.1"]
        assert lines[-1] == "client: the server closed the connection"
        assert (program.process.returncode, program.stderr()) == (0, "")
