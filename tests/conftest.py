"""Fixtures: every test that asks for `selector` or `poll` runs once per selector of this machine."""

import faulthandler
import gc
import os

import on_windows
import pytest
from program import SANITIZED
from util import PROC, WINDOWS, WINE, close_all, open_descriptors

from metalio import Events, Poll
from metalio._sys import selector_names

# Longer than any test may take: this is for what hangs with the GIL held, where pytest-timeout can do nothing.
_HOPELESS = 150

_report = os.dup(2)


def pytest_configure(config):
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        os.dup2(2, _report, inheritable=False)


class Unwanted(pytest.Module):
    """A file of tests that does not apply here; it is not even imported."""

    def collect(self):
        pytest.skip(on_windows.FILES[self.path.name], allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if WINDOWS and module_path.name in on_windows.FILES:
        return Unwanted.from_parent(parent, path=module_path)
    return None


def pytest_collection_modifyitems(items):
    if WINDOWS:
        reasons = on_windows.TESTS | (on_windows.WINE if WINE else {})
        for item in items:
            name = item.nodeid.rpartition("/")[2]
            parts = name.partition("[")[0]
            # A test with its parameters, a test, and a class of them.
            if reason := reasons.get(name) or reasons.get(parts) or reasons.get(parts.rpartition("::")[0]):
                item.add_marker(pytest.mark.skip(reason=reason))
            elif isinstance(item, pytest.Function) and "in_child" in item.function.__code__.co_names:
                # At once: what the test has made by then would be left unclosed, and found by another test.
                item.add_marker(pytest.mark.skip(reason="there is no fork on Windows"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if SANITIZED:
        # Slow; and a thread that is about when a test forks may keep the allocator of a sanitizer locked in the child.
        return (yield)
    faulthandler.dump_traceback_later(_HOPELESS, exit=True, file=_report)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except FileNotFoundError as error:
        if not PROC and str(error.filename).startswith("/proc/"):
            pytest.skip("only Linux tells what this test looks at, in /proc")
        raise


@pytest.fixture(params=selector_names())
def selector(request):
    """The name of a selector."""
    return request.param


@pytest.fixture
def poll(selector):
    """An open poll on that selector."""
    with Poll(selector=selector) as poll:
        yield poll


@pytest.fixture
def events():
    return Events(64)


@pytest.fixture(params=["completion"] if WINDOWS else ["eventfd", "pipe"])
def waker_kind(request, monkeypatch):
    """What wakes the polls that are made after this.  Ask for it before `poll`."""
    if request.param == "pipe":
        monkeypatch.setenv("METALIO_WAKER", "pipe")
    else:
        monkeypatch.delenv("METALIO_WAKER", raising=False)
    if request.param == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    return request.param


@pytest.fixture(autouse=True)
def no_leaks():
    """No test may leave a descriptor behind.  What `util` made for it is closed first."""
    before = open_descriptors()
    yield
    close_all()
    after = open_descriptors()
    if not after.items() <= before.items():
        gc.collect()
        after = open_descriptors()
    left = {number: after[number] for number in after.keys() - before.keys()}
    assert not left, f"descriptors left open: {left}"
