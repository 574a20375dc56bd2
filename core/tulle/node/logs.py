"""tulled's log on standard error: lines `time level logger event key=value ...`, or JSON with the same in fields.

The first word of a message is the event's name and stable ("worker-running"); what follows is for people. What repeats
is held back and counted: docs of an event can rely on the name, a disk on the bound.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from tulle.node.repeats import Repeats

MOST = 30
WINDOW_S = 60.0
"""So many lines a minute of one event of one logger."""

HELD_BACK = "lines-held-back"

_EVENT = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def event_of(record: logging.LogRecord) -> str:
    """The event's name; "" where the message does not begin with one, as those of libraries."""
    first = str(record.msg).split(maxsplit=1)[:1]
    found = _EVENT.fullmatch(first[0].removesuffix(":")) if first else None
    return found[0] if found and record.name.split(".")[0] == "tulle" else ""


class TextLines(logging.Formatter):
    """Names from the network may be in a message: no control character gets out, and a further line is indented, so
    that none can look like a line of its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], super().format(record))
        return text.replace("\n", "\n    ")


class JsonLines(logging.Formatter):
    """time, level, logger, event, message; exception, a traceback, where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event_of(record),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


class Bounded(logging.Filter):
    """Lets MOST lines of one event and logger a minute pass; then says how many were held back. Lines of level DEBUG
    pass always: who asks for them wants all."""

    def __init__(
        self, tell: Callable[[logging.LogRecord], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`tell` writes a record without asking this filter."""
        super().__init__()
        self._tell = tell
        self._clock = clock
        self._repeats = Repeats(MOST, WINDOW_S)
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return True
        self.tell_ended()
        # What has no event's name is known by its unformatted text.
        key = (event_of(record) or str(record.msg), record.name)
        with self._lock:
            return self._repeats.admit(key, self._clock())

    def tell_ended(self, *, everything: bool = False) -> None:
        """Say what was held back in windows that are over. To be called now and then: the lines may have stopped."""
        with self._lock:
            over = self._repeats.all() if everything else self._repeats.ended(self._clock())
        for (event, name), held in over:
            text = f"{HELD_BACK} event=%s count=%d (at most {MOST} a minute are written)"
            self._tell(logging.LogRecord(name, logging.WARNING, __file__, 0, text, (event, held), None))


class _Handler(logging.StreamHandler[TextIO]):
    def write(self, record: logging.LogRecord) -> None:
        """Past the filters."""
        self.acquire()
        try:
            self.emit(record)
        finally:
            self.release()


class Log:
    """tulled's log, which may be set up anew while it runs."""

    def __init__(self, verbosity: int, form: str) -> None:
        self._bounded = set_up(verbosity, form)

    def change(self, verbosity: int, form: str) -> None:
        self._bounded.tell_ended(everything=True)
        self._bounded = set_up(verbosity, form)

    def tell_ended(self, *, everything: bool = False) -> None:
        """See `Bounded`."""
        self._bounded.tell_ended(everything=everything)


def set_up(verbosity: int, form: str = "text", stream: TextIO | None = None) -> Bounded:
    """-v 0 says what changes, 1 and more what is done, 3 and more what libraries say too. `form`: "text" or "json".

    Takes the place of what was set up before."""
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    bounded = Bounded(handler.write)
    handler.addFilter(bounded)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbosity < 3 else logging.DEBUG)
    logging.getLogger("tulle").setLevel(logging.INFO if verbosity < 1 else logging.DEBUG)
    for noisy in ("asyncio", "pyroute2", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING if verbosity < 3 else logging.DEBUG)
    return bounded
