"""CPython's own tests of `selectors`, on `MetalSelector`."""

import errno
import selectors
import tempfile
import unittest

import pytest
from util import WINDOWS

from metalio._sys import selector_names
from metalio.selectors import MetalSelector

if not WINDOWS:
    import resource

try:
    from test import test_selectors as cpython
    from test.support.os_helper import make_bad_fd
except ImportError as error:
    pytest.skip(f"CPython's own tests are not installed: {error}", allow_module_level=True)


def on(name):
    """The tests on the selector of that name."""

    class OnMetal(cpython.BaseSelectorTestCase, cpython.ScalableSelectorMixIn, unittest.TestCase):
        class SELECTOR(MetalSelector):
            def __init__(self):
                super().__init__(name)

        def setUp(self):
            if WINDOWS:
                return
            # One of them lifts the limit of descriptors to its maximum, and opens up to 65,536.
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)

        # What CPython tests with some selectors only.

        def test_register_file(self):
            with self.SELECTOR() as selector, tempfile.NamedTemporaryFile() as file:
                with self.assertRaises(OSError if WINDOWS else PermissionError):
                    selector.register(file, selectors.EVENT_READ)
                with self.assertRaises(KeyError):
                    selector.get_key(file)

        def test_register_bad_fd(self):
            with self.SELECTOR() as selector:
                number = make_bad_fd()
                with self.assertRaises(OSError) as raised:
                    selector.register(number, selectors.EVENT_READ)
                self.assertEqual(raised.exception.errno, errno.ENOTSOCK if WINDOWS else errno.EBADF)
                with self.assertRaises(KeyError):
                    selector.get_key(number)

    OnMetal.__name__ = OnMetal.__qualname__ = f"TestOn{name.capitalize()}"
    return OnMetal


for _name in selector_names():
    _class = on(_name)
    globals()[_class.__name__] = _class
del _class
