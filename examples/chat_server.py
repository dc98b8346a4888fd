"""A chat server: who is connected hears what the others write, line by line.

    python examples/chat_server.py [127.0.0.1:7008]

Lines that begin with a slash are commands: `/name NAME`, `/who`, `/key PASSWORD`, `/quit`.  A key takes a while to
derive, so that is done by worker threads.  They answer through a channel, whose receiver is polled like the
connections, and the loop neither waits for them nor shares anything with them.
"""

import hashlib
import queue
import sys
import threading

from metalio.channel import channel
from metalio.net import TcpListener
from tcp_server import LONGEST_LINE, Connection, Server

WORKERS = 2
MOST_OUTPUT = 1 << 20  # how much may wait for a client that does not read


def derive_key(password):
    return hashlib.scrypt(password.encode(), salt=b"metalio", n=1 << 12, r=8, p=1, dklen=16).hex()


class Workers:
    """Threads that take jobs from a queue, and send what comes of them to a receiver."""

    def __init__(self, count):
        self.jobs: queue.SimpleQueue = queue.SimpleQueue()
        sender, self.answers = channel()
        # Each has a sender of its own, and closes it at its end.
        self.threads = [threading.Thread(target=self.work, args=(sender.clone(),)) for _ in range(count)]
        sender.close()

    def work(self, sender):
        with sender:
            while (job := self.jobs.get()) is not None:
                member, function, argument = job
                try:
                    answer = function(argument)
                except Exception as error:
                    answer = f"failed: {error}"
                sender.send((member, answer))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, value, traceback):
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join()
        self.answers.close()


class Room:
    """Who is there."""

    def __init__(self, workers):
        self.workers = workers
        self.members = {}
        self.visits = 0

    def enter(self, server, stream):
        self.visits += 1
        stream.nodelay = True
        member = Member(server, stream, self, f"guest{self.visits}")
        self.members[member.name] = member
        self.tell(f"* {member.name} is here", member)

    def leave(self, member):
        if self.members.pop(member.name, None) is not None:
            self.tell(f"* {member.name} has gone", member)

    def tell(self, line, but):
        # Whoever cannot be told leaves meanwhile.
        for member in list(self.members.values()):
            if member is not but:
                member.tell(line)

    def hear(self, member, line):
        command, _, argument = line.partition(" ")
        if not line.startswith("/"):
            self.tell(f"{member.name}: {line}", member)
        elif command == "/name" and argument.isidentifier() and argument not in self.members:
            del self.members[member.name]
            self.tell(f"* {member.name} is now {argument}", member)
            member.name = argument
            self.members[argument] = member
        elif command == "/who":
            member.tell("* " + " ".join(sorted(self.members)))
        elif command == "/key":
            self.workers.jobs.put((member, derive_key, argument))
        elif command == "/quit":
            member.close()
        else:
            member.tell("* what?")

    def answered(self, event):
        """The workers have sent something."""
        for member, answer in self.workers.answers.drain():
            member.tell(f"* {answer}")


class Member(Connection):
    def __init__(self, server, stream, room, name):
        super().__init__(server, stream)
        self.room = room
        self.name = name
        self.unfinished = b""  # the line that has begun to arrive
        self.output = b""  # what the client has not taken yet

    def step(self):
        self.flush()
        data = self.stream.read(65536)
        if data is None:
            return False
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        for line in lines:
            if not self.stream.closed:
                self.room.hear(self, line.decode(errors="replace").strip())
        if data == b"" or len(self.unfinished) > LONGEST_LINE:
            self.close()
        return not self.stream.closed

    def tell(self, line):
        if self.stream.closed:
            return  # What it had asked for came too late.
        self.output += line.encode() + b"\n"
        try:
            self.flush()
        except OSError:
            self.close()
        if len(self.output) > MOST_OUTPUT:
            self.close()

    def flush(self):
        while self.output:
            count = self.stream.write(self.output)
            if count is None:
                return  # An event will say that there is room.
            self.output = self.output[count:]

    def close(self):
        super().close()
        self.room.leave(self)


def main(address="127.0.0.1:7008"):
    with TcpListener.bind(address) as listener, Workers(WORKERS) as workers:
        room = Room(workers)
        Server(room.enter, listener, sources=[(workers.answers, room.answered)]).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
