"""Messages from threads to a thread that polls, with what it takes to wake that one up.

The same loop for all: each producer sends numbers, and whoever polls appends them to a list, one by one.  Afterwards
every number has to be there once, and those of each producer in their order.
"""

import os
import select
import socket
import threading
from contextlib import closing
from functools import partial
from queue import Empty, Queue, SimpleQueue
from time import perf_counter

from metalio import Events, Interest, Poll
from metalio.bench.case import Case, Unavailable
from metalio.bench.common import LOOPS, new_epoll
from metalio.channel import channel, sync_channel


def measured(producers, messages, produce, receive):
    """Messages a second: `produce(numbers)` sends them from a thread of its own, `receive(count)` returns them all."""
    batches = [list(range(first * messages, (first + 1) * messages)) for first in range(producers)]
    threads = [threading.Thread(target=produce, args=(numbers,), daemon=True) for numbers in batches]
    begin = perf_counter()
    for thread in threads:
        thread.start()
    received = receive(producers * messages)
    seconds = perf_counter() - begin
    for thread in threads:
        thread.join()
    verify(batches, received)
    return producers * messages / seconds


def verify(batches, received):
    """None lost, none twice, and those of each producer in order."""
    messages = len(batches[0])
    following = [iter(numbers) for numbers in batches]
    for number in received:
        if next(following[number // messages], None) != number:
            raise RuntimeError(f"{number} was received out of order, or twice")
    if len(received) != len(batches) * messages:
        raise RuntimeError(f"{len(received)} messages were received instead of {len(batches) * messages}")


def metalio(producers, messages, bound):
    sender, receiver = sync_channel(bound) if bound else channel()
    with Poll() as poll, sender, receiver:
        poll.registry.register(receiver, receiver, Interest.READABLE)

        def produce(numbers):
            send = sender.send
            for number in numbers:
                send(number)

        def receive(count):
            batch = Events()
            received = []
            while len(received) < count:
                poll.poll(batch)
                for event in batch:
                    received.extend(event.token.drain())
            return received

        return measured(producers, messages, produce, receive)


class SocketPair:
    """What wakes a thread that polls."""

    def __init__(self):
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)

    def fileno(self):
        return self.reader.fileno()

    def ring(self):
        self.writer.send(b"\0")

    def hear(self):
        self.reader.recv(4096)

    def close(self):
        self.reader.close()
        self.writer.close()


class EventFd:
    """The same, where the system has it."""

    def __init__(self):
        if not hasattr(os, "eventfd"):
            raise Unavailable("not on this platform")
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)

    def fileno(self):
        return self.fd

    def ring(self):
        os.eventfd_write(self.fd, 1)

    def hear(self):
        os.eventfd_read(self.fd)

    def close(self):
        os.close(self.fd)


class Mailbox:
    """A queue of the standard library and an alarm that is rung once a batch."""

    def __init__(self, queue, alarm):
        self.queue = queue
        self.alarm = alarm
        self.rung = False

    def send(self, message):
        self.queue.put(message)
        if not self.rung:
            self.rung = True
            self.alarm.ring()

    def take(self, received):
        self.alarm.hear()
        # Before looking, so that what comes after the last look rings again.
        self.rung = False
        try:
            while True:
                received.append(self.queue.get_nowait())
        except Empty:
            pass


def by_hand(new_alarm, producers, messages, bound):
    with new_epoll() as epoll, closing(new_alarm()) as alarm:
        epoll.register(alarm, select.EPOLLIN)
        mailbox = Mailbox(Queue(bound) if bound else SimpleQueue(), alarm)

        def produce(numbers):
            send = mailbox.send
            for number in numbers:
                send(number)

        def receive(count):
            received = []
            while len(received) < count:
                for _ in epoll.poll():
                    mailbox.take(received)
            return received

        return measured(producers, messages, produce, receive)


def inlined(new_alarm, producers, messages, bound):
    """The same for who counts nanoseconds: no method in between, and a loop in C."""
    with new_epoll() as epoll, closing(new_alarm()) as alarm:
        epoll.register(alarm, select.EPOLLIN)
        queue = SimpleQueue()
        rung = False

        def produce(numbers):
            nonlocal rung
            put = queue.put
            for number in numbers:
                put(number)
                if not rung:
                    rung = True
                    alarm.ring()

        def receive(count):
            nonlocal rung
            received = []
            get = queue.get_nowait
            while len(received) < count:
                for _ in epoll.poll():
                    alarm.hear()
                    rung = False
                    try:
                        received.extend(iter(get, None))
                    except Empty:
                        pass
            return received

        return measured(producers, messages, produce, receive)


def event_loop(new_loop, producers, messages, bound):
    with closing(new_loop()) as loop:
        received = []
        last = producers * messages

        def take(number):
            received.append(number)
            if len(received) == last:
                loop.stop()

        def produce(numbers):
            send = loop.call_soon_threadsafe
            for number in numbers:
                send(take, number)

        def receive(count):
            loop.run_forever()
            return received

        return measured(producers, messages, produce, receive)


CONTENDERS = {
    "metalio": metalio,
    "SimpleQueue, socket pair": partial(by_hand, SocketPair),
    "SimpleQueue, eventfd": partial(by_hand, EventFd),
    "SimpleQueue, eventfd, inlined": partial(inlined, EventFd),
    **{f"{name}, call_soon_threadsafe": partial(event_loop, new_loop) for name, new_loop in LOOPS.items()},
}

CASES = (
    Case(
        title="1 producer",
        unit="message/s",
        contenders=CONTENDERS,
        params={"producers": 1, "messages": 500_000, "bound": 0},
        quick={"messages": 50_000},
        higher_is_better=True,
    ),
    Case(
        title="4 producers",
        unit="message/s",
        contenders=CONTENDERS,
        params={"producers": 4, "messages": 125_000, "bound": 0},
        quick={"messages": 12_500},
        higher_is_better=True,
    ),
    Case(
        title="4 producers, no more than 1,024 messages waiting",
        unit="message/s",
        contenders={
            "metalio": metalio,
            "Queue, socket pair": partial(by_hand, SocketPair),
            "Queue, eventfd": partial(by_hand, EventFd),
        },
        params={"producers": 4, "messages": 50_000, "bound": 1024},
        quick={"messages": 5_000},
        higher_is_better=True,
    ),
)
