"""Runs a module of CPython's tests of asyncio, and prints the outcome of each test as JSON.

    python tests/asyncio_results.py stock|epoll|poll|afd test_events

With the name of one of metalio's selectors, asyncio's selectors are `MetalSelector`: the default one, and those that
the tests ask for by name.  On Windows the loops are those on selectors, by default too, and what tests asyncio's
other loop there is left out.
"""

import asyncio
import json
import os
import selectors
import sys
import unittest

from metalio._sys import selector_names
from metalio.selectors import MetalSelector

made = 0


def metal(selector):
    class OnMetal(MetalSelector):
        def __init__(self):
            global made
            made += 1
            super().__init__(selector)

    return OnMetal


class Outcomes(unittest.TestResult):
    """What became of each test, by its name."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}

    def startTest(self, test):
        super().startTest(test)
        self.outcomes[test.id()] = "passed"

    def addError(self, test, error):
        super().addError(test, error)
        self.outcomes[test.id()] = f"error: {error[0].__name__}"
        print(self.errors[-1][1], file=sys.stderr)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.outcomes[test.id()] = "failed"
        print(self.failures[-1][1], file=sys.stderr)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.outcomes[test.id()] = "failed"
            print(subtest, error, file=sys.stderr)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.outcomes[test.id()] = "failed as expected"

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.outcomes[test.id()] = "passed unexpectedly"


def tests(suite):
    """Those of a suite that have to do with selectors."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests(test)
        elif "Proactor" not in type(test).__name__:
            yield test


def main(selector, module):
    if sys.platform == "win32":
        # This is what setting no policy leads to, which many of the tests do in the end.
        asyncio.DefaultEventLoopPolicy = asyncio.WindowsSelectorEventLoopPolicy
    if selector != "stock":
        selectors.DefaultSelector = metal(selector)
        if hasattr(selectors, "EpollSelector"):
            selectors.EpollSelector = metal(selector)
        selectors.PollSelector = metal("poll" if "poll" in selector_names() else None)
    output = os.dup(1)
    # Some of the tests print.
    os.dup2(2, 1)
    result = Outcomes()
    suite = unittest.defaultTestLoader.loadTestsFromName(f"test.test_asyncio.{module}")
    unittest.TestSuite(tests(suite)).run(result)
    with open(output, "w") as file:
        json.dump({"made": made, "outcomes": result.outcomes}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
