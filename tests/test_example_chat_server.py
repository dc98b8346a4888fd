"""examples/chat_server.py, talked to over real sockets."""

import hashlib
import threading

import pytest
from example import LOOPBACK, announced, reset, start
from program import (
    connect,
    eventually,
)


@pytest.fixture
def chat():
    with start("chat_server.py", LOOPBACK) as program:
        program.address = announced(program)
        yield program


class Chatter:
    """A client of the chat server."""

    def __init__(self, address):
        self.sock = connect(address)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.file.close()
        self.sock.close()

    def say(self, *lines):
        self.sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def hear(self):
        line = self.file.readline()
        assert line.endswith(b"\n")
        return line.decode().rstrip("\n")


class TestChatServer:
    def test_lines_go_to_the_others(self, chat):
        with Chatter(chat.address) as ann, Chatter(chat.address) as bob:
            assert ann.hear() == "* guest2 is here"
            ann.say("/name ann")
            assert bob.hear() == "* guest1 is now ann"
            bob.say("/name ann", "/name bob", "hello", "/nonsense")
            assert [bob.hear(), bob.hear()] == ["* what?"] * 2
            assert [ann.hear(), ann.hear()] == ["* guest2 is now bob", "bob: hello"]
            ann.say("/who", "good", "bye", "/quit", "not heard")
            assert ann.hear() == "* ann bob"
            assert ann.file.read() == b""
            assert [bob.hear() for _ in range(3)] == ["ann: good", "ann: bye", "* ann has gone"]
        chat.stop()

    def test_workers_answer(self, chat):
        with Chatter(chat.address) as ann, Chatter(chat.address) as bob:
            assert ann.hear() == "* guest2 is here"
            keys = {"one", "two", "", "three and four"}
            bob.say(*(f"/key {key}" for key in keys), "meanwhile")
            # The loop does not wait for them.
            assert ann.hear() == "guest2: meanwhile"
            derived = {
                "* " + hashlib.scrypt(key.encode(), salt=b"metalio", n=1 << 12, r=8, p=1, dklen=16).hex()
                for key in keys
            }
            assert {bob.hear() for _ in keys} == derived
            # Nobody is there any more to hear it.
            bob.say("/key late", "/quit")
            assert bob.file.read() == b""
            assert ann.hear() == "* guest2 has gone"
            ann.say("/key mine")
            assert ann.hear().startswith("* ")
        chat.stop()

    def test_it_stops_with_work_left(self, chat):
        with Chatter(chat.address) as ann:
            ann.say(*["/key again"] * 20, "/who")
            while ann.hear() != "* guest1":
                pass
            chat.stop()

    def test_who_does_not_read_is_dropped(self, chat):
        with Chatter(chat.address) as ann, Chatter(chat.address) as bob:
            assert ann.hear() == "* guest2 is here"
            flood = "x" * 10_000
            memory = chat.memory()

            def talk():
                for _ in range(4000):
                    ann.say(flood)

            talker = threading.Thread(target=talk, daemon=True)
            talker.start()
            assert ann.hear() == "* guest2 has gone"
            talker.join()
            assert chat.memory() - memory < 16 << 20
            ann.say("/who")
            assert ann.hear() == "* guest1"
            bob.sock.close()
        chat.stop()

    def test_broken_connections(self, chat):
        before = chat.descriptors()
        with Chatter(chat.address) as ann:
            for number in range(2, 12):
                other = connect(chat.address)
                assert ann.hear() == f"* guest{number} is here"
                other.sendall(b"/key x\n" * 3)
                reset(other)
                assert ann.hear() == f"* guest{number} has gone"
        eventually(lambda: chat.descriptors() == before)
        chat.stop()
