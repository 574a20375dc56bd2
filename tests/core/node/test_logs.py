"""The log: one line an event on standard error, with UTC time; bounded where something repeats."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tulle.node.logs import MOST, WINDOW_S, Bounded, JsonLines, Log, TextLines, event_of, set_up

LOGGER = "tulle.test"
PROGRAM = """
import logging, sys
from tulle.node import logs
logs.set_up(0)
logs.set_up(int(sys.argv[1]))
logging.getLogger("tulle.node").info("subnet %s", "10.5.52.0/24")
logging.getLogger("tulle.node").debug("detail")
logging.getLogger("other").debug("others' detail")
logging.getLogger("grpc").info("chatter")
"""
CHANGED = ("", "tulle", "asyncio", "pyroute2", "grpc")


@pytest.fixture(autouse=True)
def _same_logging_afterwards() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in CHANGED]
    levels = [logger.level for logger in loggers]
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def record(
    message: str, *arguments: object, name: str = LOGGER, level: int = logging.INFO
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "f.py", 1, message, arguments, None)


def lines_of(*records: logging.LogRecord) -> list[str]:
    out = io.StringIO()
    set_up(0, stream=out)
    for one in records:
        logging.getLogger(one.name).handle(one)
    return out.getvalue().splitlines()


def test_a_line_has_time_level_logger_and_message() -> None:
    (line,) = lines_of(record("worker-running pid=%d", 7))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO tulle\.test worker-running pid=7", line)


def test_json_has_the_same_in_fields_one_object_a_line() -> None:
    out = io.StringIO()
    set_up(0, "json", out)
    logging.getLogger(LOGGER).warning("worker-ended pid=%d said=%s", 7, 'a "b"\nc')
    logging.getLogger("asyncio").error("Task was destroyed")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "warning",
        "logger": LOGGER,
        "event": "worker-ended",
        "message": 'worker-ended pid=7 said=a "b"\nc',
    }
    assert (second["event"], second["message"]) == ("", "Task was destroyed")


@pytest.mark.parametrize("form", [TextLines(), JsonLines()])
def test_a_traceback_is_part_of_the_line(form: logging.Formatter) -> None:
    try:
        raise ValueError("oh")
    except ValueError:
        one = logging.LogRecord(LOGGER, logging.ERROR, "f.py", 1, "api-method-failed", (), sys.exc_info())
    first, *rest = form.format(one).splitlines()
    text = json.loads(first)["exception"] if isinstance(form, JsonLines) else "\n".join(rest)
    assert "ValueError: oh" in text
    assert all(line.startswith("    ") for line in rest)


def test_no_message_can_forge_a_line_or_touch_the_terminal() -> None:
    text = TextLines().format(record("peer-refused name=%s", "a\n2026 INFO x\r\x1b[2J\x85\u2028b"))
    first, second = text.split("\n")
    assert first.endswith("name=a")
    assert second == r"    2026 INFO x\r\x1b[2J\x85\u2028b"


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("worker-running pid=%d", "worker-running"),
        ("ready peers=3", "ready"),
        ("lease-race: lost", "lease-race"),
        ("%s happened", ""),
        ("Task was destroyed", ""),
        ("-x", ""),
        ("", ""),
    ],
)
def test_the_event_is_the_first_word_where_it_is_a_name(message: str, event: str) -> None:
    assert event_of(record(message)) == event
    assert event_of(record(message, name="asyncio")) == ""


class Collected:
    """A bounded log with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.bounded = Bounded(
            lambda one: self.told.append(f"{one.name} {one.getMessage()}"), lambda: self.now
        )

    def passed(self, *records: logging.LogRecord) -> int:
        return sum(self.bounded.filter(one) for one in records)


def test_what_repeats_is_held_back_and_then_counted() -> None:
    log = Collected()
    assert log.passed(*[record("peer-refused name=%d", number) for number in range(MOST + 5)]) == MOST
    assert log.passed(record("peer-refused name=1", name="tulle.other"), record("peer-lost")) == 2
    assert log.told == []
    log.now = WINDOW_S
    assert log.passed(record("ready")) == 1
    assert log.told == [
        f"{LOGGER} lines-held-back event=peer-refused count=5 (at most {MOST} a minute are written)"
    ]
    assert log.passed(record("peer-refused name=1")) == 1


def test_what_is_held_back_when_lines_stop_is_told_on_demand() -> None:
    log = Collected()
    log.passed(*[record("peer-refused")] * (MOST + 1))
    log.bounded.tell_ended()
    assert log.told == []
    log.bounded.tell_ended(everything=True)
    assert len(log.told) == 1


def test_lines_without_an_event_are_bounded_by_their_text() -> None:
    log = Collected()
    assert log.passed(*[record("Peer %d", number) for number in range(MOST + 5)]) == MOST
    assert log.passed(record("Link %d", 1)) == 1


def test_debug_lines_are_never_held_back() -> None:
    log = Collected()
    assert log.passed(*[record("packet", level=logging.DEBUG)] * (MOST + 5)) == MOST + 5


def test_the_handler_itself_is_bounded_whatever_thread_writes() -> None:
    out = io.StringIO()
    bounded = set_up(0, stream=out)

    def write() -> None:
        for _ in range(MOST):
            logging.getLogger(LOGGER).info("flood")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bounded.tell_ended(everything=True)
    lines = out.getvalue().splitlines()
    assert len(lines) == MOST + 1
    assert f"lines-held-back event=flood count={3 * MOST} " in lines[-1]


@pytest.mark.parametrize(
    ("verbosity", "said"),
    [
        (0, ["subnet 10.5.52.0/24"]),
        (1, ["subnet 10.5.52.0/24", "detail"]),
        (3, ["subnet 10.5.52.0/24", "detail", "others' detail", "chatter"]),
    ],
)
def test_higher_levels_say_more_each_once(verbosity: int, said: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(verbosity)], capture_output=True, text=True, check=True
    )
    assert [line.split(" ", 3)[3] for line in done.stderr.splitlines()] == said
    assert done.stdout == ""


def test_setting_up_again_takes_the_place_of_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up(0, stream=first)
    set_up(0, "json", stream=second)
    logging.getLogger(LOGGER).info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_the_log_can_be_set_up_anew_while_lines_are_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    log, logger = Log(0, "text"), logging.getLogger(LOGGER)
    for _ in range(MOST + 5):
        logger.info("again")
    logger.debug("not seen")
    log.change(1, "json")
    logger.debug("seen")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == MOST + 2
    assert "lines-held-back event=again count=5" in lines[-2]
    assert json.loads(lines[-1])["message"] == "seen"
