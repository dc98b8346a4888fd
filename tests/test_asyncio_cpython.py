"""CPython's own tests of asyncio have the same results on `MetalSelector` as on the stock selector, test by test.

Those that wait for descriptors are run; all of them, which takes two minutes, with `METALIO_ASYNCIO=all` in the
environment.
"""

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from program import ROOT, SANITIZED, WINDOWS

from metalio._sys import selector_names

# The longest that one module may take on one selector, in seconds: they take up to 15 on a machine with nothing to do.
LIMIT = 140
# Most of them sleep most of the time.
AT_ONCE = 4
# Some measure time, and fail on a busy machine now and then, on any selector.  What differs is run again, alone.
ATTEMPTS = 3

ALL = os.environ.get("METALIO_ASYNCIO") == "all"
# The modules that wait for descriptors, and how many selectors they make at the least.
WAITING = {
    "test_base_events": 40,
    "test_buffered_proto": 1,
    "test_events": 100,
    "test_sendfile": 20,
    "test_server": 1,
    "test_sock_lowlevel": 20,
    "test_ssl": 10,
    "test_sslproto": 10,
    "test_streams": 40,
    "test_subprocess": 50,
    "test_unix_events": 20,
}
if WINDOWS:
    # The loop on selectors starts no processes there, and there is one of it, not one for each kind of selector.
    del WAITING["test_subprocess"], WAITING["test_unix_events"]
    WAITING |= {"test_events": 40, "test_sendfile": 10, "test_sock_lowlevel": 10}


def modules():
    try:
        package = importlib.util.find_spec("test.test_asyncio")
    except ImportError:
        package = None
    if package is None:
        return []
    (folder,) = package.submodule_search_locations
    # Those of another platform, and of asyncio's other loop on Windows.
    others = ("proactor", "unix" if WINDOWS else "windows")
    return sorted(
        path.stem
        for path in Path(folder).glob("test_*.py")
        if (path.stem in WAITING or ALL) and not any(other in path.stem for other in others)
    )


MODULES = modules()

pytestmark = [
    pytest.mark.skipif(not MODULES, reason="CPython's own tests of asyncio are not installed"),
    pytest.mark.skipif(SANITIZED, reason="they measure time, and a sanitizer is slow"),
    pytest.mark.timeout(ATTEMPTS * LIMIT),
]


def results(selector, module):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "asyncio_results.py", selector, module],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


@pytest.fixture(scope="module")
def first_results(request):
    """Of each selector that is asked about, and each module, the results of a run beside others."""
    tests = [item for item in request.session.items if item.path == request.path]
    asked = {item.callspec.params["selector"] for item in tests if hasattr(item, "callspec")}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {
            (name, module): pool.submit(results, name, module)
            for module in MODULES
            for name in ("stock", *(name for name in selector_names() if name in asked))
        }
        return {key: future.result() for key, future in futures.items()}


@pytest.mark.parametrize("module", [module for module in MODULES if module in WAITING])
def test_there_are_results(first_results, selector, module):
    """Nobody is content because nothing was run, or nothing on metalio."""
    stock = first_results["stock", module]
    metal = first_results[selector, module]
    assert stock["made"] == 0
    assert metal["made"] >= WAITING[module]
    assert sum(outcome == "passed" for outcome in stock["outcomes"].values()) >= len(stock["outcomes"]) / 2


@pytest.mark.parametrize("module", MODULES)
def test_same_results(first_results, selector, module):
    stock = first_results["stock", module]
    metal = first_results[selector, module]
    for _ in range(ATTEMPTS - 1):
        if metal["outcomes"] == stock["outcomes"]:
            break
        stock = results("stock", module)
        metal = results(selector, module)
    assert metal["outcomes"] == stock["outcomes"], metal["stderr"]
