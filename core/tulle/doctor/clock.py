"""This node's wall clock against the peers' and the store's.

tulle itself counts time by monotonic clocks; certificates, the handshakes of encrypted backends and whoever compares
two nodes' logs do not. Peers are asked by ICMP timestamp requests (RFC 792; IPv6 has none), which any Linux answers;
a store with a URL by the Date of an HTTP answer (RFC 9110 section 6.6.1).
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from statistics import median
from urllib.parse import urlsplit

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.net import echo
from tulle.net.echo import DAY_MS
from tulle.probe.echo import EchoSocket, wait

PEERS_ASKED = 16
ANSWER_S = 1.0
LIMIT_MS = 2000
"""More is worth a warning: clocks kept by NTP agree within milliseconds, and an HTTP Date has whole seconds."""

MEND = (
    "timedatectl set-ntp true  # and see whether it works: timedatectl timesync-status, or chronyc tracking"
)


async def check(ctx: DoctorContext, wall: Callable[[], float] = time.time) -> list[Finding]:
    """`wall`: seconds since 1970."""
    addresses = {
        peer.node: str(address) for peer in ctx.peers for address in peer.endpoints if address.version == 4
    }
    asked = dict(list(addresses.items())[:PEERS_ASKED])
    try:
        offsets = await asyncio.to_thread(ask_peers, asked, wall)
        found = judge_peers(offsets, len(asked))
    except PermissionError as error:
        found = [Finding(severity="skipped", subject="peers' clocks", what=str(error.strerror))]
    location = ctx.store.location if ctx.store is not None else ""
    url = next((one for one in location.split(",") if one.startswith(("http://", "https://"))), "")
    if not url:
        what = "it has no clock of its own: it lies on this machine" if ctx.store else "there is none to ask"
        return [*found, Finding(severity="skipped", subject="store's clock", what=what)]
    return [*found, await asyncio.to_thread(judge_store, url, wall)]


def ask_peers(addresses: Mapping[str, str], wall: Callable[[], float]) -> dict[str, int]:
    """By how many milliseconds each peer that answers is ahead of us. Raises PermissionError."""
    offsets: dict[str, int] = {}
    if not addresses:
        return offsets
    names = {address: name for name, address in addresses.items()}
    with EchoSocket(4) as opened:
        for address in names:
            opened.send_message(address, echo.timestamp_request(opened.identifier, 0, _today_ms(wall)))
        deadline = time.monotonic() + ANSWER_S
        while len(offsets) < len(names) and wait([opened], deadline):
            got = opened.receive()
            times = echo.read_times(got[1], opened.identifier) if got is not None else None
            if got is not None and times is not None and got[0] in names:
                offsets.setdefault(names[got[0]], echo.offset_ms(times, _today_ms(wall)))
    return offsets


def _today_ms(wall: Callable[[], float]) -> int:
    return int(wall() * 1000) % DAY_MS


def judge_peers(offsets: Mapping[str, int], asked: int) -> list[Finding]:
    """Pure. Where most of the others agree against us it is our clock."""
    if not offsets:
        what = (
            "no peer is known" if not asked else f"none of {asked} peers answered (a firewall may drop ICMP)"
        )
        if not asked:
            what += " by an IPv4 address"
        return [Finding(severity="skipped", subject="peers' clocks", what=what)]
    middle = median(offsets.values())
    if abs(middle) > LIMIT_MS:
        return [_ours_is_off(f"{len(offsets)} peers (the middle of them)", middle)]
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > LIMIT_MS}
    if not wrong:
        worst = max(map(abs, offsets.values()))
        what = f"{len(offsets)} of {asked} peers answered, and differ by {worst} ms at most"
        return [Finding(severity="ok", subject="peers' clocks", what=what)]
    return [
        Finding(
            severity="warning",
            subject=f"clock of {name}",
            what=f"is {_seconds(offset)} this node's and the others'",
            why="certificates and handshakes of that node may be refused, and its logs mislead",
            mend=f"{MEND}; on {name}",
        )
        for name, offset in wrong.items()
    ]


def _ours_is_off(against: str, offset_ms: float) -> Finding:
    return Finding(
        severity="error",
        subject="clock of this node",
        what=f"is {_seconds(-offset_ms)} that of {against}",
        why="certificates look expired or not valid yet, encrypted peers refuse handshakes, logs mislead",
        mend=MEND,
    )


def _seconds(offset_ms: float) -> str:
    return f"{abs(offset_ms) / 1000:.1f} s {'ahead of' if offset_ms > 0 else 'behind'}"


def judge_store(url: str, wall: Callable[[], float]) -> Finding:
    """Ask and judge."""
    try:
        date = http_date(url)
    except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
        what = f"{url} tells no time by HTTP ({error})"
        return Finding(severity="skipped", subject="store's clock", what=what)
    return judge_date(url, date, wall())


def judge_date(url: str, date: float, now: float) -> Finding:
    """Pure; both in seconds since 1970."""
    offset_ms = (date - now) * 1000
    if abs(offset_ms) > LIMIT_MS:
        return _ours_is_off(f"the store at {url}", offset_ms)
    what = f"agrees with this node's to {LIMIT_MS // 1000} s ({url})"
    return Finding(severity="ok", subject="store's clock", what=what)


def http_date(url: str) -> float:
    """Seconds since 1970. The certificate is not checked: nothing secret is sent, and a wrong clock is one reason why
    it would not be accepted. Raises OSError, HTTPException, ValueError, TypeError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=ANSWER_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/version")
        date = connection.getresponse().getheader("Date")
    finally:
        connection.close()
    if date is None:
        raise ValueError("its answer has no Date")
    return parsedate_to_datetime(date).timestamp()
