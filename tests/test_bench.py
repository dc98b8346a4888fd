"""The benchmark suite: every contender comes to a figure, and what checks them can fail."""

import argparse
import contextlib
import ctypes
import io
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from util import PATIENCE, WINDOWS

from metalio import bench
from metalio.bench import (
    alloc,
    case,
    channel,
    echo_load,
    harness,
    native,
    plot,
    ready,
    report,
    ring,
    selector,
    stats,
    timers,
    wake,
    worker,
)
from metalio.bench.common import LOOPS
from metalio.cli import bench as cli

needs_c = pytest.mark.skipif(
    not hasattr(select, "epoll") or native.compiler() is None,
    reason="the programs in C are for Unix" if WINDOWS else "the programs in C need epoll, and a compiler",
)

# As small as it gets.
TINY = {
    "pairs": 4,
    "active": 4,
    "events": 20,
    "descriptors": 4,
    "cycles": 4,
    "count": 5,
    "pending": 100,
    "connections": 3,
    "batches": 2,
    "messages": 100,
    "trips": 20,
    "calls": 50,
    "warm_up_ms": 0,
    "measure_ms": 20,
    "echoes": 5,
    "turns": 2,
    "few": 1,
    "some": 2,
    "many": 3,
    "window": 4,
    "idle": 20,
    # Of this process, which has other tests to run.
    "pinned": 0,
}

CONTENDERS = [
    pytest.param(index, name, contender, id=f"{name}-{index}-{contender}")
    for name in bench.NAMES
    for index, measured in enumerate(bench.load(name).CASES)
    for contender in measured.contenders
]


@pytest.fixture(autouse=True, scope="module")
def programs():
    """One place for compiled programs, so that each is compiled once."""
    with native.directory():
        yield


@pytest.fixture(autouse=True, scope="module")
def first_uvloop():
    """From its first loop on libuv keeps a pipe for the process: open it before descriptors are counted."""
    with contextlib.suppress(case.Unavailable):
        LOOPS["uvloop"]().close()


def tiny(measured):
    return {name: TINY.get(name, value) for name, value in measured.params.items()}


@pytest.mark.parametrize(("index", "name", "contender"), CONTENDERS)
def test_contender(index, name, contender):
    measured = bench.load(name).CASES[index]
    try:
        if contender == "gevent":
            # It takes SIGCHLD over for good.
            figure = harness.run_worker(name, index, contender, tiny(measured))
        else:
            figure = measured.contenders[contender](**tiny(measured))
    except case.Unavailable as error:
        pytest.skip(str(error))
    value = figure.value if isinstance(figure, case.Figure) else figure
    if name in ("alloc", "memory"):
        # There may be no calls at all, and so few connections may fit in the memory that there is.
        assert value >= 0
    else:
        assert value > 0
    assert (figure.others.keys() if measured.others else set()) >= measured.others.keys()


@needs_c
@pytest.mark.parametrize("source", sorted(native.SOURCES.glob("*.c")), ids=lambda path: path.name)
def test_c_source_has_no_warnings(source):
    command = [native.compiler(), "-O2", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_c
class TestAllocations:
    @pytest.mark.skipif(
        not getattr(sys, "_is_gil_enabled", lambda: True)(),
        reason="the interpreter then unpacks by an iterator, and Cython has no free lists",
    )
    @pytest.mark.parametrize("descriptors", [16, 400])
    def test_metalio_has_none(self, descriptors):
        figure = alloc.metalio(descriptors, 16, 200)
        assert (figure.value, figure.detail) == (0, "raw 0, mem 0, object 0")

    def test_of_a_peer_are_seen(self):
        assert alloc.epoll(16, 16, 200).value >= 1

    @pytest.mark.parametrize(
        ("domain", "prefix"),
        [(0, "PyMem_Raw"), (1, "PyMem_"), (2, "PyObject_")],
    )
    def test_each_domain_is_counted(self, domain, prefix):
        allocate, free = (getattr(ctypes.pythonapi, prefix + name) for name in ("Malloc", "Free"))
        allocate.restype = ctypes.c_void_p
        free.argtypes = [ctypes.c_void_p]
        free.restype = None

        def calls_in(number):
            def run(cycles):
                for _ in range(cycles):
                    for _ in range(number):
                        free(allocate(64))

            return alloc.Counter().per_cycle(run, 50)[domain]

        # The calls by ctypes allocate too, in this domain or another: two calls against four.
        assert calls_in(4) - calls_in(2) >= 2

    def test_one_in_a_cycle_is_seen(self):
        kept = [None]

        def run(cycles):
            for _ in alloc.repeat(None, cycles):
                kept[0] = object()

        assert alloc.Counter().per_cycle(run, 100)[2] == 1

    def test_none_are_made_up(self):
        def run(cycles):
            for _ in alloc.repeat(None, cycles):
                pass

        assert alloc.Counter().per_cycle(run, 100) == [0, 0, 0]


class TestVerification:
    def test_a_ring_may_not_lose_bytes(self):
        ring.verify(3, [b"e", None, b"ee"])
        with pytest.raises(RuntimeError, match="2 bytes in the ring instead of 3"):
            ring.verify(3, [b"e", None, b"e"])

    def test_echoes_within_one_loop_are_compared(self):
        class Transport:
            def write(self, data):
                self.written = data

        over = []
        transport = Transport()
        caller = selector.Caller(6, 8, lambda: over.append(True))
        caller.connection_made(transport)
        assert transport.written == b"7 xxxxxx"
        caller.data_received(b"7 xxx")
        assert not over
        caller.data_received(b"xxx")
        assert over == [True]
        assert transport.written == b"8 xxxxxx"
        with pytest.raises(SystemExit, match="not what was sent"):
            caller.data_received(b"7 xxxxxx")

    def test_everything_ready_is_found(self):
        assert ready.verified(4, 4) == 4
        with pytest.raises(RuntimeError, match="3 ready descriptors instead of 4"):
            ready.verified(4, 3)

    def test_every_message_is_there_in_order(self):
        batches = [[0, 1, 2], [3, 4, 5]]
        channel.verify(batches, [3, 0, 4, 1, 2, 5])
        for received, complaint in (
            ([3, 0, 4, 2, 1, 5], "2 was received out of order, or twice"),
            ([3, 0, 4, 1, 1, 2, 5], "1 was received out of order, or twice"),
            ([3, 0, 4, 1, 2, 5, 5], "5 was received out of order, or twice"),
            ([3, 0, 4, 1, 2], "5 messages were received instead of 6"),
        ):
            with pytest.raises(RuntimeError, match=complaint):
                channel.verify(batches, received)

    def test_every_wake_is_heard_once(self):
        wake.verify(["woken"])
        for tokens in ([], ["woken"] * 2):
            with pytest.raises(RuntimeError, match=f"{len(tokens)} events instead of one"):
                wake.verify(tokens)

    @needs_c
    @pytest.mark.parametrize(
        ("answer", "complaint"),
        [
            (lambda data: data, None),
            (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "bytes of an echo"),
            (lambda data: data + b"x", "an echo"),
            (lambda data: b"", "connection closed early"),
        ],
        ids=["right", "wrong byte", "byte too many", "closed"],
    )
    def test_the_load_compares_every_byte(self, answer, complaint):
        def serve():
            stream, _ = listener.accept()
            with stream:
                try:
                    while (data := stream.recv(65536)) and (data := answer(data)):
                        stream.sendall(data)
                except ConnectionError:
                    pass

        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=serve)
            server.start()
            port = str(listener.getsockname()[1])
            client = [native.build("echo_client"), port, "1", "100", "0", "50", "1000000"]
            done = subprocess.run(client, capture_output=True, text=True, timeout=20)
            server.join()
        if complaint is None:
            assert done.returncode == 0, done.stderr
            rate, p50, p99, busy, echoes = map(float, done.stdout.split())
            assert rate > 0
            assert 0 < p50 <= p99 < 50e6
            assert 0 < busy < 1.5
            assert echoes > 0
        else:
            assert done.returncode == 1
            assert complaint in done.stderr

    def test_every_timeout_goes_off(self):
        timers.verify(4, 4)
        with pytest.raises(RuntimeError, match="3 timeouts went off instead of 4"):
            timers.verify(3, 4)

        class Deaf(timers.Metalio):
            def expire(self, callback, count):
                pass

        with pytest.raises(RuntimeError, match="0 timeouts went off instead of 5"):
            timers.expire(Deaf, 10, 5)

        class Stubborn(timers.Metalio):
            def cancel(self, timeouts):
                pass

        with pytest.raises(RuntimeError, match="timeouts went off instead of 0"):
            timers.cancel(Stubborn, 10, 5)

    @needs_c
    def test_the_load_is_bounded_in_count(self, monkeypatch):
        # Ten echoes are over long before the time is.
        measured = bench.load("convoy").CASES[0]
        monkeypatch.setattr(echo_load, "MOST_ECHOES", 10)
        figure = measured.contenders["C"](**{**tiny(measured), "measure_ms": 30_000})
        assert figure.value > 0


class TestStatistics:
    def test_medians_and_ratios_by_round(self):
        summaries = stats.summarise({"C": [10, 20, 40], "metalio": [11, 24, 44]})
        assert summaries["C"].median == 20
        assert summaries["C"].ratio == 1
        # 1.1, 1.2, 1.1: the ratios' median, not the medians' ratio.
        assert summaries["metalio"].ratio == pytest.approx(1.1)

    def test_cost_is_the_reverse_of_a_rate(self):
        summaries = stats.summarise({"C": [100], "metalio": [50]}, higher_is_better=True)
        assert summaries["metalio"].ratio == 2

    def test_without_the_limit_metalio_is_the_baseline(self):
        summaries = stats.summarise({"metalio": [10], "selectors": [30]})
        assert summaries["selectors"].ratio == 3
        assert stats.summarise({"selectors": [30]})["selectors"].ratio is None

    def test_no_ratio_to_nothing(self):
        summaries = stats.summarise({"metalio": [0, 0], "selectors": [8, 8]})
        assert summaries["selectors"].ratio is None
        assert summaries["metalio"].spread == 0

    def test_spread_is_the_distance_of_the_quartiles(self):
        summary = stats.summarise({"C": [8, 9, 10, 11, 12]})["C"]
        assert (summary.low, summary.high, summary.spread) == (9, 11, pytest.approx(0.2))

    def test_quiet_and_clear(self):
        assert stats.warnings({"metalio": [10, 10.1, 10.2], "selectors": [20, 20.1, 20.3]}) == []

    def test_warns_of_noise(self):
        (warning,) = stats.warnings({"metalio": [10, 10, 10], "selectors": [20, 30, 40]})
        assert warning.startswith("selectors is noisy")

    def test_warns_where_it_cannot_tell(self):
        (warning,) = stats.warnings({"metalio": [10, 10, 10.2], "selectors": [10.2, 9.9, 10]})
        assert warning == "this run cannot tell metalio and selectors apart"

    def test_equal_counts_are_no_noise(self):
        assert stats.warnings({"metalio": [0, 0, 0], "uvloop": [0, 0, 0]}) == []


@pytest.fixture
def small(monkeypatch):
    """A benchmark of three contenders that do not matter."""
    measured = case.Case("small", "ns", dict.fromkeys("abc"), params={"size": 10}, quick={"size": 1})
    monkeypatch.setattr(harness, "load", lambda name: argparse.Namespace(CASES=(measured,)))
    return measured


class TestHarness:
    def test_alternates_the_order(self, small, monkeypatch):
        calls = []

        def run_worker(benchmark, index, contender, params):
            calls.append((contender, params["size"]))
            return case.Figure(len(calls), contender)

        monkeypatch.setattr(harness, "run_worker", run_worker)
        (result,) = harness.run("small", rounds=3)
        assert [name for name, _ in calls] == list("abccbaabc")
        assert {size for _, size in calls} == {10}
        assert result.samples == {"a": [1, 6, 7], "b": [2, 5, 8], "c": [3, 4, 9]}
        assert result.details == {"a": "a", "b": "b", "c": "c"}

    def test_goes_on_without_those_that_cannot(self, small, monkeypatch):
        calls = []

        def run_worker(benchmark, index, contender, params):
            calls.append(contender)
            if contender == "a":
                raise case.Unavailable("not here")
            if contender == "b" and calls.count("b") == 2:
                raise harness.WorkerFailed("fell over")
            return case.Figure(1.0)

        monkeypatch.setattr(harness, "run_worker", run_worker)
        (result,) = harness.run("small", rounds=3, quick=True)
        assert result.params == {"size": 1}
        assert result.unavailable == {"a": "not here"}
        assert result.failed == {"b": "fell over"}
        assert result.samples == {"c": [1.0, 1.0, 1.0]}
        assert calls == list("abccbc")

    def test_a_worker_of_its_own(self):
        figure = harness.run_worker("ring", 0, "metalio", tiny(ring.CASES[0]))
        assert figure.value > 0
        assert figure.detail == ""

    @needs_c
    def test_other_metrics(self):
        measured = bench.load("convoy").CASES[0]
        result = harness.Result("convoy", measured, tiny(measured))
        result.add("a", harness.run_worker("convoy", 0, "metalio", result.params))
        result.add("b", case.Figure(1.0, "", dict.fromkeys(measured.others, 2.0)))
        assert set(result.others) == {"processor", "p50", "p99"}
        for name, other in result.others.items():
            assert other.case.unit == measured.others[name].unit
            assert not other.case.higher_is_better
            assert other.samples["a"][0] > 0
            assert other.samples["b"] == [2.0]
        result.fail("a", "fell over")
        assert result.samples.keys() == result.others["p99"].samples.keys() == {"b"}

    def test_the_reason_of_a_failure(self):
        with pytest.raises(harness.WorkerFailed, match="unexpected keyword argument 'wrong'"):
            harness.run_worker("ring", 0, "metalio", {"wrong": 1})

    @needs_c
    def test_ends_what_it_started(self):
        params = {**tiny(bench.load("convoy").CASES[0]), "measure_ms": 30_000}
        with pytest.raises(harness.WorkerFailed, match="no figure within 2 s"):
            harness.run_worker("convoy", 0, "metalio", params, seconds=2)
        # What is killed is gone soon, not at once.
        deadline = time.monotonic() + PATIENCE
        while running := programs_running():
            assert time.monotonic() < deadline, running

    @needs_c
    def test_leaves_nothing_behind(self):
        with native.directory():
            inner = Path(place())
            assert native.build("ready").is_relative_to(inner)
        assert not inner.exists()
        assert Path(place()).is_dir()

    def test_without_a_peer(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "uvloop", None)
        with pytest.raises(case.Unavailable, match="not installed"):
            ring.CASES[0].contenders["uvloop"](**tiny(ring.CASES[0]))
        monkeypatch.delattr(select, "epoll", raising=False)
        with pytest.raises(case.Unavailable, match="not on this platform"):
            ring.CASES[0].contenders["select.epoll"](**tiny(ring.CASES[0]))

    def test_without_a_compiler(self, monkeypatch):
        monkeypatch.setattr(native, "compiler", lambda: None)
        with native.directory(), pytest.raises(case.Unavailable, match="no C compiler"):
            native.build("ready")

    @needs_c
    def test_with_a_compiler_that_cannot(self, monkeypatch, tmp_path):
        (tmp_path / "broken.c").write_text("int main(void) { return nothing; }\n")
        monkeypatch.setattr(native, "SOURCES", tmp_path)
        with pytest.raises(case.Unavailable, match=r"broken does not compile here: .*nothing"):
            native.build("broken")

    @needs_c
    def test_a_program_that_fails(self):
        with pytest.raises(RuntimeError, match="argument 1 is a whole number from 1"):
            native.run("ready", 0)

    def test_worker_prints_json(self, capsys):
        worker.main("ready", "0", "metalio", json.dumps(tiny(ready.CASES[0])))
        assert json.loads(capsys.readouterr().out)["value"] > 0


def place():
    return os.environ[native.DIRECTORY]


def programs_running():
    """The compiled programs of this module that run."""
    return [path for path in Path("/proc").glob("[0-9]*/exe") if target(path).startswith(place())]


def target(path):
    try:
        return str(path.readlink())
    except OSError:
        return ""


@pytest.fixture(scope="module")
def fonts():
    """matplotlib keeps its fonts open: have it open them before descriptors are counted."""
    pytest.importorskip("matplotlib")
    plot.draw([], io.BytesIO())


@pytest.fixture
def result():
    measured = case.Case("small", "ns/event", dict.fromkeys(["C", "metalio", "uvloop", "asyncio"]), params={"size": 10})
    return harness.Result(
        "some",
        measured,
        {"size": 10},
        samples={"metalio": [2000.0, 2200.0, 2400.0], "C": [1000.0, 1100.0, 1200.0]},
        details={"metalio": "as expected", "C": ""},
        unavailable={"uvloop": "not installed"},
        failed={"asyncio": "fell over"},
    )


class TestReport:
    def test_other_metrics_have_columns(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "rich.console", None)
        measured = case.Case(
            "small",
            "echo/s",
            dict.fromkeys(["metalio", "b", "c"]),
            {},
            higher_is_better=True,
            others={"p99": case.Metric("ns")},
        )
        result = harness.Result("some", measured, {})
        result.add("metalio", case.Figure(10.0, "", {"p99": 50.0}))
        result.add("b", case.Figure(5.0, "slow", {"p99": 100.0}))
        result.unavailable["c"] = "not installed"
        report.show(result)
        assert capsys.readouterr().out.splitlines() == [
            "some: small",
            "contender  median  spread  ratio           p99",
            "metalio      10.0      0%   1.00   50.0 (1.00)",
            "b               5      0%   2.00  100.0 (2.00)  slow",
            "c               -                               not installed",
            "echo/s, higher is better; ratio: cost in units of metalio's; p99: ns (ratio)",
            "",
        ]
        (written,) = json.loads(report.as_json([result], {}))["results"]
        assert written["others"]["p99"]["contenders"]["b"]["median"] == 100

    def test_rows_in_the_order_of_the_case(self, result):
        assert list(report.rows(result)) == [
            ("C", "1,100", "9%", "1.00", ""),
            ("metalio", "2,200", "9%", "2.00", "as expected"),
            ("uvloop", "-", "", "", "not installed"),
            ("asyncio", "failed", "", "", "fell over"),
        ]

    def test_plain_where_rich_is_not_installed(self, result, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "rich.console", None)
        result.samples["C"] = [1000.0, 1500.0, 2000.0]
        report.show(result)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:6] == [
            "some: small",
            "contender  median  spread  ratio",
            "C           1,500     33%   1.00",
            "metalio     2,200      9%   1.47  as expected",
            "uvloop          -                 not installed",
            "asyncio    failed                 fell over",
        ]
        assert lines[6] == "ns/event, lower is better; ratio: cost in units of C's"
        assert lines[7].startswith("warning: C is noisy")

    def test_table(self, result, capsys):
        pytest.importorskip("rich")
        report.show(result)
        output = capsys.readouterr().out
        for text in ("some: small", "1,100", "2.00", "not installed", "lower is better"):
            assert text in output

    def test_json(self, result):
        everything = json.loads(report.as_json([result], report.environment()))
        assert everything["environment"]["python"] == report.platform.python_version()
        (written,) = everything["results"]
        assert written["baseline"] == "C"
        assert written["contenders"]["metalio"]["samples"] == [2000.0, 2200.0, 2400.0]
        assert written["contenders"]["metalio"]["ratio"] == 2
        assert written["failed"] == {"asyncio": "fell over"}

    @pytest.mark.parametrize(
        ("value", "text"), [(0, "0"), (1.2345, "1.23"), (12.345, "12.3"), (999.96, "1000.0"), (12345.6, "12,346")]
    )
    def test_numbers(self, value, text):
        assert report.number(value) == text

    def test_warns_of_a_busy_machine(self):
        busy = {"load": [3.2, 1.0, 1.0], "processors": 2}
        assert report.disturbance(busy) == "the machine is busy: 3.2 processes run on 2 processors"
        assert report.disturbance({**busy, "processors": 8}) is None
        assert report.disturbance({**busy, "load": [0.2, 5.0, 5.0]}) is None
        assert report.disturbance({**busy, "load": None}) is None

    def test_plot(self, fonts, result, tmp_path):
        plot.draw([result], tmp_path / "picture.svg")
        picture = (tmp_path / "picture.svg").read_text()
        assert "some: small" in picture
        assert "metalio" in picture
        assert "uvloop" not in picture

    def test_markdown(self, result):
        result.benchmark = "ring"
        text = report.as_markdown([result], report.environment(), "the command")
        assert "    the command\n\n## ring\n" in text
        assert text.endswith(
            "| case | C | metalio | uvloop | asyncio |\n| --- | --- | --- | --- | --- |\n"
            "| small; ns/event | 1,100 (1.00) | 2,200 (2.00) | - | failed |\n"
        )


class TestCommand:
    def parse(self, *arguments):
        parser = argparse.ArgumentParser()
        cli.add_parser(parser.add_subparsers())
        return parser.parse_args(["bench", *arguments])

    def test_unknown_name(self, capsys):
        with pytest.raises(SystemExit) as info:
            self.parse("rings")
        assert info.value.code == 2
        message = capsys.readouterr().err
        assert "there is no benchmark 'rings'" in message
        assert all(name in message for name in bench.NAMES)

    def test_rounds_are_positive(self, capsys):
        with pytest.raises(SystemExit):
            self.parse("--rounds", "0")
        assert "--rounds" in capsys.readouterr().err

    def test_runs_and_writes(self, monkeypatch, tmp_path, capsys):
        tiny_case = case.Case("tiny", "ns/event", {"metalio": None, "select.epoll": None}, params=tiny(ready.CASES[0]))
        monkeypatch.setattr(ready, "CASES", (tiny_case,))
        files = ["--json", str(tmp_path / "figures.json"), "--markdown", str(tmp_path / "figures.md")]
        arguments = self.parse("ready", "--rounds", "1", *files)
        assert arguments.run(arguments) == 0
        assert "    python -m metalio bench ready --rounds 1\n" in (tmp_path / "figures.md").read_text()
        output, progress = capsys.readouterr()
        assert "ready: tiny" in output
        assert "ready: tiny, round 1 of 1: metalio" in progress.splitlines()
        (written,) = json.loads((tmp_path / "figures.json").read_text())["results"]
        assert list(written["contenders"]) == ["metalio", "select.epoll"][: 2 if hasattr(select, "epoll") else 1]

    def test_a_failure_is_its_exit_status(self, monkeypatch):
        measured = case.Case("tiny", "ns/event", {"metalio": None}, params={"wrong": 1})
        monkeypatch.setattr(ready, "CASES", (measured,))
        arguments = self.parse("ready", "--rounds", "1")
        assert arguments.run(arguments) == 1

    def test_interrupted(self, monkeypatch, tmp_path):
        def run(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(harness, "run", run)
        arguments = self.parse("ready", "--json", str(tmp_path / "figures.json"))
        assert arguments.run(arguments) == 130
        assert json.loads((tmp_path / "figures.json").read_text())["results"] == []

    def test_plot_needs_matplotlib(self, monkeypatch, capsys):
        monkeypatch.setattr(plot, "available", lambda: False)
        arguments = self.parse("ready", "--plot", "picture.svg")
        assert arguments.run(arguments) == 2
        assert "matplotlib" in capsys.readouterr().err

    def test_says_early_that_it_cannot_write(self, tmp_path, capsys):
        arguments = self.parse("ready", "--json", str(tmp_path / "missing" / "figures.json"))
        assert arguments.run(arguments) == 2
        assert "no such directory" in capsys.readouterr().err
