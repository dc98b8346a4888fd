"""SourceFd."""

import os

import pytest
from util import READABLE, expect_no_events, expect_only, is_open, socket_pair

from metalio import PollOpt
from metalio.unix import SourceFd


@pytest.fixture
def ends():
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        if is_open(fd):
            os.close(fd)


def test_it_stands_for_the_descriptor(poll, events, ends):
    read, write = ends
    source = SourceFd(read)
    assert source.fileno() == read
    assert repr(source) == f"SourceFd({read})"
    poll.registry.register(source, "pipe", READABLE, PollOpt.LEVEL)
    expect_no_events(poll, events)
    os.write(write, b"x")
    expect_only(poll, events, "pipe", "readable")
    # Any other one of the same number does as well.
    del source
    poll.registry.reregister(SourceFd(read), "again", READABLE, PollOpt.LEVEL)
    expect_only(poll, events, "again", "readable")
    poll.registry.deregister(SourceFd(read))
    expect_no_events(poll, events)
    with pytest.raises(FileNotFoundError):
        poll.registry.deregister(SourceFd(read))


def test_registered_twice(poll, ends):
    poll.registry.register(SourceFd(ends[0]), 1, READABLE, PollOpt.LEVEL)
    with pytest.raises(FileExistsError):
        poll.registry.register(SourceFd(ends[0]), 2, READABLE, PollOpt.LEVEL)


def test_it_borrows(ends):
    source = SourceFd(ends[0])
    del source
    assert is_open(ends[0])


def test_it_is_the_same_source_as_the_object_that_owns_it(poll, events):
    first, second = socket_pair()
    poll.registry.register(first, "socket", READABLE, PollOpt.LEVEL)
    poll.registry.reregister(SourceFd(first.fileno()), "fd", READABLE, PollOpt.LEVEL)
    second.send(b"x")
    expect_only(poll, events, "fd", "readable")
    poll.registry.deregister(first)


def test_one_that_is_not_open(poll):
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(OSError, match="not open"):
        poll.registry.register(SourceFd(fd), 1, READABLE, PollOpt.LEVEL)


def test_a_regular_file(poll, tmp_path):
    with open(tmp_path / "file", "w") as file, pytest.raises(PermissionError, match="cannot be polled"):
        poll.registry.register(SourceFd(file.fileno()), 1, READABLE, PollOpt.LEVEL)


@pytest.mark.parametrize("fd", [None, "0", 1.0, b"", True, open, [0]])
def test_what_is_no_number(fd):
    with pytest.raises(TypeError, match="is an int, not"):
        SourceFd(fd)


@pytest.mark.parametrize("fd", [-1, 1 << 31, 1 << 80])
def test_what_is_no_descriptor(fd):
    with pytest.raises(ValueError, match="is no descriptor"):
        SourceFd(fd)


def test_a_bare_number_is_no_source(poll, ends):
    with pytest.raises(TypeError, match="SourceFd"):
        poll.registry.register(ends[0], 1, READABLE, PollOpt.LEVEL)
