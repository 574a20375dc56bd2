"""`tulle-wg` and the distribution's wireguard-go over a wire that delays, reorders, repeats and loses: each datagram is
delivered once, if it arrives at all; and a whole capture sent again is nothing to either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest

from lab.test_tulle_wg_interop import INNER, OURS, PORTS, THEIRS, Pair, other
from lab.wgnet import net, wait_for
from tulle.testing.faults.line import Weather

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-tulle-wg-wire")]

HOSTS = (OURS, THEIRS)
IPV4_HEADER_BYTES, UDP_HEADER_BYTES = 20, 8
INITIATION, TRANSPORT = 1, 4  # paper section 5.4
TRANSPORT_OVERHEAD_BYTES = 32
PADDING_BYTES = 16
COUNTER = slice(8, 16)
COUNT, RATE, SIZE = 3000, 1000.0, 200
"""Of a flood each way. No ping and no keepalive is as long."""
BEHIND_S = 1.0
"""A datagram may arrive after a thousand that were sent later: far inside the window of 8128."""
STORM = Weather(delay_s=0.02, jitter_s=0.01, reorder=0.2, behind_s=BEHIND_S, duplicate=0.2)
SEED = 11


@pytest.fixture
def pair() -> Iterator[Pair]:
    """With a session. Each datagram is a packet of its own on the wire, also where its sender gave many at once."""
    with net() as wires:
        made = Pair(wires)
        for host in HOSTS:
            wires.run(host, "ip", "link", "set", "eth0", "gso_max_segs", "1")
            made.know(host)
        assert made.ping(OURS) == 2
        yield made


def ways() -> list[tuple[str, str, str]]:
    return [(host, other(host), INNER[other(host)][0]) for host in HOSTS]


def length() -> int:
    """Of a flood's datagram when it is sealed."""
    inner = SIZE + IPV4_HEADER_BYTES + UDP_HEADER_BYTES
    return -(-inner // PADDING_BYTES) * PADDING_BYTES + TRANSPORT_OVERHEAD_BYTES


@contextmanager
def captures(pair: Pair) -> Iterator[dict[str, list[bytes]]]:
    """What arrives at each host's port, when the block has ended."""
    with ExitStack() as stack:
        yield {host: stack.enter_context(pair.net.capture(host, PORTS[host])) for host in HOSTS}


def payloads(packets: list[bytes]) -> list[bytes]:
    return [packet[IPV4_HEADER_BYTES + UDP_HEADER_BYTES :] for packet in packets]


def counters(packets: list[bytes]) -> list[int]:
    """Of the flood's datagrams, as they arrived."""
    found = [one for one in payloads(packets) if one[0] == TRANSPORT and len(one) == length()]
    return [int.from_bytes(one[COUNTER], "little") for one in found]


def received_bytes(pair: Pair, host: str) -> int:
    """What `wg` says there: of what was taken, once."""
    return int(pair.about(host)["received"])


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_over_a_wire_in_disorder_each_datagram_is_delivered_once_and_none_is_lost_by_us(
    pair: Pair, loss: float, say: Callable[[str, object], None]
) -> None:
    """What the wire has delivered twice is dropped, and all of it is: the numbers are equal, not about equal."""
    storm = msgspec.structs.replace(STORM, loss=loss)
    before = {host: (pair.net.arrived(host, f"wg-{host}"), received_bytes(pair, host)) for host in HOSTS}
    with captures(pair) as seen, pair.net.weather(OURS, storm, SEED):
        found = pair.net.floods(*ways(), count=COUNT, rate=RATE, size=SIZE)
    for (sender, receiver, _), flood in zip(ways(), found, strict=True):
        came = counters(seen[receiver])
        once = set(came)
        late = sum(number < highest for number, highest in zip(came, running_maximum(came), strict=True))
        say(f"from {sender}", flood)
        say(f"at {receiver}", f"{len(came)} datagrams, {len(once)} different, {late} late")
        assert len(came) - len(once) > COUNT / 10
        assert late > COUNT / 10
        assert (len(once) == COUNT) == (loss == 0)
        assert (flood["received"], flood["duplicates"], flood["socket_drops"]) == (len(once), 0, 0)
        assert flood["reordered"] > COUNT / 10
        arrived, taken = before[receiver]
        assert pair.net.arrived(receiver, f"wg-{receiver}") - arrived == len(once)
        rose = received_bytes(pair, receiver) - taken
        assert 0 <= rose - len(once) * length() < length()  # and a keepalive or two
    assert {host: pair.about(host)["endpoint"] for host in HOSTS} == {
        host: pair.endpoint(other(host)) for host in HOSTS
    }


def running_maximum(numbers: list[int]) -> list[int]:
    found: list[int] = []
    for number in numbers:
        found.append(max(number, found[-1]) if found else number)
    return found


@pytest.mark.parametrize("forwards", [True, False])
def test_a_capture_that_is_sent_again_as_a_whole_delivers_nothing_and_moves_nobody(
    pair: Pair, forwards: bool, say: Callable[[str, object], None]
) -> None:
    """The handshake too; in its sender's name and by a stranger."""
    pair.net.host("stranger")
    with captures(pair) as seen:
        renew(pair)
        pair.net.floods(*ways(), count=COUNT // 3, rate=RATE, size=SIZE)
    for host in HOSTS:
        assert len(set(counters(seen[host]))) == COUNT // 3
        again(pair, host, seen[host] if forwards else seen[host][::-1], say)
    assert any(one[0] == INITIATION for host in HOSTS for one in payloads(seen[host]))
    assert pair.ping(OURS, count=3) == pair.ping(THEIRS, count=3) == 6


def renew(pair: Pair) -> None:
    """A new session, by a peer that is forgotten and known again at both ends."""
    for host in HOSTS:
        pair.net.wg(host, "set", f"wg-{host}", "peer", pair.keys[other(host)].public, "remove")
    for host in HOSTS:
        pair.know(host)
    assert pair.net.reaches(OURS, INNER[THEIRS][0])


def again(pair: Pair, host: str, packets: list[bytes], say: Callable[[str, object], None]) -> None:
    """Everything that has come to the host comes again, twice. The host's program has read all of it."""
    wires, to = pair.net, (pair.net.addresses[host][0], PORTS[host])

    def state() -> dict[str, Any]:
        told = pair.about(host)
        kept = {name: told[name] for name in ("endpoint", "handshake")}
        return {**kept, "arrived": wires.arrived(host, f"wg-{host}")}

    before, taken, read = state(), received_bytes(pair, host), wires.udp(host)
    for packet in packets:
        assert packet[0] == 4 << 4 | 5  # IPv4 without options: RFC 791
    wires.replay(other(host), packets, to, raw=True)
    wires.replay("stranger", payloads(packets), to)
    wait_for(lambda: wires.udp(host)["InDatagrams"] - read["InDatagrams"] >= 2 * len(packets))
    say(f"to {host}", f"{len(packets)} twice")
    assert wires.udp(host)["InErrors"] == read["InErrors"]
    assert state() == before
    assert received_bytes(pair, host) - taken < length()  # a keepalive or two
