"""What the poll cycle asks of the kernel."""

import pytest
from program import system_calls

from metalio._sys import selector_names

pytestmark = pytest.mark.skipif("epoll" not in selector_names(), reason="needs epoll")

SETUP = """
import socket
from metalio import Events, Interest, Poll
from metalio.unix import SourceFd
a, b = socket.socketpair()
poll = Poll(selector="epoll")
events = Events()
poll.registry.register(SourceFd(a.fileno()), "a", Interest.READABLE)
"""


def test_one_wait_a_cycle(tmp_path):
    """And nothing else, where each poll finds something."""
    code = "for _ in range(20):\n    b.send(b'x')\n    poll.poll(events)"
    # The first one has no reason to look, and sleeps.
    assert system_calls(SETUP, code, tmp_path) == ["sendto", "epoll_wait"] * 20


@pytest.mark.parametrize("polls", [30, 60])
def test_looks_in_vain_come_to_an_end(tmp_path, polls):
    """A client that asks again only after a while leaves nothing to be found: then each poll sleeps at once."""
    code = f"""
import time
if os.fork() == 0:
    for _ in range({polls}):
        time.sleep(0.002)
        b.send(b"x")
    os._exit(0)
received = 0
while received < {polls}:
    assert poll.poll(events, 30)
    os.write(1, b"polled")
    received += len(a.recv(100))
"""
    calls = system_calls(SETUP, code, tmp_path)
    polled = calls.count("write")
    # Some bytes may have come together.
    assert polled > 10
    assert polled <= sum(call.startswith("epoll") for call in calls) <= polled + 8
