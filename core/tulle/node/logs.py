"""tulled's log: one line an event on standard error, `time level logger event key=value ...`."""

from __future__ import annotations

import logging
import sys
import time


class _Lines(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")


def set_up(verbosity: int) -> None:
    """-v 0 says what changes, 1 and more says what is done."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbosity < 3 else logging.DEBUG)
    logging.getLogger("tulle").setLevel(logging.INFO if verbosity < 1 else logging.DEBUG)
    for noisy in ("asyncio", "pyroute2", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING if verbosity < 3 else logging.DEBUG)
