"""Words to the service manager (sd_notify(3)): a datagram to the socket in $NOTIFY_SOCKET; nothing without one."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

WATCHDOG_SHARE = 3
"""Signs of life within one watchdog period: two may be lost (sd_watchdog_enabled(3) asks for at least two)."""


class ServiceManager:
    """Says what systemd wants to know of a service of Type=notify."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._said = ""
        self.watchdog_s = self._watchdog_s(environ)
        """How often `alive` is to be said; None: nobody asks."""

    def ready(self) -> None:
        self._say("READY=1")

    def reloading(self) -> None:
        """To be followed by `ready` when that is over (sd_notify(3): the time is that of its beginning)."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def alive(self) -> None:
        self._say("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; said when it changes."""
        if text != self._said:
            self._said = text
            self._say(f"STATUS={text}")

    def _say(self, text: str) -> None:
        """Nobody has to listen, and nothing fails because nobody does."""
        if not self._address:
            return
        # "@" stands for the zero byte of an abstract address (unix(7)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), address)

    @staticmethod
    def _watchdog_s(environ: Mapping[str, str]) -> float | None:
        text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if not text.isdigit() or int(text) == 0 or (pid and pid != str(os.getpid())):
            return None
        return int(text) / 1e6 / WATCHDOG_SHARE
