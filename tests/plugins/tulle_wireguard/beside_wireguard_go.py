"""One of our devices beside a real wireguard-go, in namespaces of their own; run by test_device_interop.py.

    python beside_wireguard_go.py PROGRAM SCENARIO

Needs to be root of its network and mount namespaces. wireguard-go has a TUN and a UDP socket; ours has a UDP socket
and no TUN: what goes into the tunnel is made and looked at here. The kernel behind wireguard-go's TUN answers.
The time of our device is real time plus `skipped`, so two minutes can pass at once for it. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from wireguard_go_ends import (
    GO_PORT,
    LONG_S,
    LOOPBACK,
    STRANGER,
    THEIR_INTERVAL_S,
    THEIRS,
    Go,
    Ours,
    if_inet6,
    payload_of,
    udp_packet,
)

from tulle.net.prefix import parse_prefix
from tulle_wireguard.cookies import Stamper
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.keypair import KeyPair
from tulle_wireguard.messages import Initiation
from tulle_wireguard.peer import Peer


def meet(go: Go, ours: Ours, *, psk: bytes | None = None, known: bool = True) -> Peer:
    """Our side of the peering; `known`: we know where they are."""
    there = Endpoint(ip_address(LOOPBACK[ours.outer]).packed, GO_PORT)
    return ours.device.add_peer(
        go.public,
        ours.now(),
        psk=psk,
        endpoints=[there] if known else [],
        allowed=[parse_prefix(f"{THEIRS[4]}/32"), parse_prefix(f"{THEIRS[6]}/128")],
    )


def judged(arrived: list[bytes], sent: list[bytes]) -> bool | str:
    """True: all arrived, unchanged. Else what did."""
    if sorted(arrived) == sorted(sent):
        return True
    net = Path("/proc/net/snmp6").read_text().split()
    drops = {name: n for name, n in zip(net[::2], net[1::2], strict=True) if n != "0" and "In" in name}
    return (
        f"sent {[len(one) for one in sent]}, arrived {[len(one) for one in arrived]}; {drops}; {if_inet6()}"
    )


def exchange(go: Go, ours: Ours, count: int = 20) -> dict[str, bool | str]:
    """Packets of many sizes, both ways, both families inside."""
    outcome: dict[str, bool | str] = {}
    for family in (4, 6):
        sizes = [n * 1372 // (count - 1) for n in range(count)]  # 1420 with IPv6 and UDP
        sent = [os.urandom(size) for size in sizes]
        arrived: list[bytes] = []
        ours.send([udp_packet(family, one) for one in sent])

        def all_there(family: int = family, arrived: list[bytes] = arrived) -> bool:
            arrived += go.took(family)
            return len(arrived) >= count

        ours.pump(all_there)
        outcome[f"there{family}"] = judged(arrived, sent)
        ours.received.clear()
        for one in sent:
            go.say(family, one)
        ours.pump(lambda: len(ours.received) >= count)
        outcome[f"back{family}"] = judged([payload_of(one) for one in ours.received], sent)
    return outcome


def facts(go: Go, ours: Ours, peer: Peer, *, all_counted: bool = True) -> dict[str, Any]:
    said: dict[str, list[str]] = {}

    def agree() -> bool:
        """They count a packet after they have delivered it."""
        said.update(go.get())
        return said["rx_bytes"][0] == str(peer.sent_bytes) and said["tx_bytes"][0] == str(peer.received_bytes)

    agreed: bool | str = ours.pump(agree, LONG_S if all_counted else 0.0)
    if not agreed:
        agreed = f"they {said['rx_bytes']} {said['tx_bytes']}, we {peer.sent_bytes} {peer.received_bytes}"
    return {
        "kinds": dict(ours.kinds),
        "counters": dict(ours.device.counters),
        "handshake": peer.last_handshake is not None,
        "go-handshake": said.get("last_handshake_time_sec", ["0"])[0] != "0",
        "bytes-agree": agreed,
        "go-endpoint-is-ours": said.get("endpoint", [""])[0].endswith(f":{ours.socket.getsockname()[1]}"),
    }


def initiator(go: Go, outer: int, psk: bytes | None = None) -> dict[str, Any]:
    ours = Ours(outer)
    go.add_peer(ours, psk=psk)
    peer = meet(go, ours, psk=psk)
    return {**exchange(go, ours), **facts(go, ours, peer)}


def responder(go: Go, outer: int, psk: bytes | None = None) -> dict[str, Any]:
    """They ask; we do not even know where they are."""
    ours = Ours(outer)
    peer = meet(go, ours, psk=psk, known=False)
    go.add_peer(ours, endpoint=True, psk=psk)
    go.say(4, b"first")
    ours.pump(lambda: bool(ours.received))
    first = [payload_of(one) for one in ours.received] == [b"first"]
    return {"first": first, **exchange(go, ours), **facts(go, ours, peer)}


def wrong_psk(go: Go, outer: int) -> dict[str, Any]:
    ours = Ours(outer)
    go.add_peer(ours, psk=os.urandom(32))
    peer = meet(go, ours, psk=os.urandom(32))
    ours.send([udp_packet(4, b"never")])
    ours.pump(lambda: ours.device.counters["drop-response-unproven"] > 0)
    return {"arrived": len(go.took(4)), **facts(go, ours, peer, all_counted=False)}


def rekey(go: Go, outer: int) -> dict[str, Any]:
    """Four sessions, 121 s apart for our device, with packets all the time."""
    ours = Ours(outer)
    go.add_peer(ours)
    peer = meet(go, ours)
    outcomes = [exchange(go, ours, 4)]
    sessions = set()
    for _ in range(3):
        before = peer.pairs.current
        assert before is not None
        sessions.add((before.local, before.remote))
        time.sleep(THEIR_INTERVAL_S)
        ours.skipped += 121
        ours.send([udp_packet(4, b"the old session still carries this")])
        carried: list[bytes] = []

        def renewed(before: KeyPair = before, carried: list[bytes] = carried) -> bool:
            carried += go.took(4)
            return bool(carried) and peer.pairs.current is not before

        ours.pump(renewed)
        outcomes.append(exchange(go, ours, 4))
    return {"sessions": len(sessions) + 1, "all": outcomes, **facts(go, ours, peer)}


def rekey_by_them(go: Go, outer: int) -> dict[str, Any]:
    """Real time: they ask anew when two minutes are over."""
    ours = Ours(outer)
    peer = meet(go, ours, known=False)
    go.add_peer(ours, endpoint=True)
    said = 0
    end = time.monotonic() + 150
    while ours.kinds["in-1"] < 2 and time.monotonic() < end:
        go.say(4, b"on and on")
        said += 1
        ours.pump(lambda: False, 0.5)
    ours.pump(lambda: len(ours.received) >= said)
    return {"said": said, "received": len(ours.received), **exchange(go, ours), **facts(go, ours, peer)}


def roaming(go: Go, outer: int) -> dict[str, Any]:
    ours = Ours(outer)
    go.add_peer(ours)
    peer = meet(go, ours)
    before = exchange(go, ours, 4)
    ours.move()
    after = exchange(go, ours, 4)
    go.set(listen_port=str(GO_PORT + 1))
    go.say(4, b"from another port")
    ours.pump(lambda: payload_of(ours.received[-1]) == b"from another port")
    moved = peer.where.current is not None and peer.where.current.port == GO_PORT + 1
    return {"before": before, "after": after, "moved": moved, "last": exchange(go, ours, 4)} | facts(
        go, ours, peer
    )


def junk(public: bytes, count: int) -> list[bytes]:
    """Initiations with a right mac1 and nothing else."""
    stamper = Stamper(public)
    return [
        stamper.stamp(Initiation(1, os.urandom(32), os.urandom(48), os.urandom(28)).encode(), 0.0)
        for _ in range(count)
    ]


def cookie_from_us(go: Go, outer: int) -> dict[str, Any]:
    """We are under load: their response is only taken once it carries a mac2."""
    ours = Ours(outer)
    go.add_peer(ours)
    peer = meet(go, ours)
    flood = ours.device.datagrams_received(junk(ours.device.public, 700), STRANGER, ours.now())
    answered_to_flood = sum(len(send.datagrams) for send in flood.sends)
    ours.skipped += 0.1
    ours.send([udp_packet(4, b"through")])
    ours.pump(lambda: ours.kinds["out-3"] > 0)
    unfinished = peer.last_handshake is None
    for _ in range(700):  # still under load, five seconds later
        ours.device.datagrams_received(junk(ours.device.public, 1), STRANGER, ours.now() + 5.4)
    time.sleep(THEIR_INTERVAL_S)
    ours.skipped += 5.4
    ours.act(ours.device.tick(ours.now()))
    arrived: list[bytes] = []

    def there() -> bool:
        arrived.extend(go.took(4))
        return bool(arrived)

    ours.pump(there)
    return {
        "flood": answered_to_flood,
        "unfinished": unfinished,
        "arrived": arrived == [b"through"],
        **facts(go, ours, peer, all_counted=False),
    }


def cookie_from_them(go: Go, outer: int) -> dict[str, Any]:
    """They are under load: our initiation is answered by a cookie, the next one carries it."""
    ours = Ours(outer)
    go.add_peer(ours)
    peer = meet(go, ours)
    crowd = Ours(outer)
    flood = junk(go.public, 600)

    def cookie_asked(message: bytes) -> bool:
        before = crowd.kinds["in-3"]
        crowd.socket.sendto(message, (LOOPBACK[outer], GO_PORT))
        return crowd.pump(lambda: crowd.kinds["in-3"] > before, 1.0)

    for one in flood:
        crowd.socket.sendto(one, (LOOPBACK[outer], GO_PORT))
    ours.send([udp_packet(4, b"through")])
    taken = ours.pump(lambda: peer.stamper.has_cookie(ours.now()))
    crowd.pump(lambda: False, 0.2)  # their queue drains, but for a second they still ask for cookies
    ours.skipped += 6
    ours.act(ours.device.tick(ours.now()))
    ours.pump(lambda: peer.last_handshake is not None)
    still_loaded = cookie_asked(flood[0])
    arrived: list[bytes] = []

    def there() -> bool:
        arrived.extend(go.took(4))
        return bool(arrived)

    ours.pump(there)
    return {
        "cookie-taken": taken,
        "still-loaded": still_loaded,
        "arrived": set(arrived) == {b"through"},
        **facts(go, ours, peer, all_counted=False),
    }


def main() -> None:
    program, scenario = sys.argv[1], sys.argv[2]
    go = Go(program)
    psk = bytes(range(32))
    scenarios: dict[str, Callable[[], dict[str, Any]]] = {
        "initiator": lambda: initiator(go, 4),
        "initiator-6": lambda: initiator(go, 6),
        "initiator-psk": lambda: initiator(go, 4, psk),
        "responder": lambda: responder(go, 4),
        "responder-6": lambda: responder(go, 6),
        "responder-psk": lambda: responder(go, 4, psk),
        "wrong-psk": lambda: wrong_psk(go, 4),
        "rekey": lambda: rekey(go, 4),
        "rekey-by-them": lambda: rekey_by_them(go, 4),
        "roaming": lambda: roaming(go, 4),
        "cookie-from-us": lambda: cookie_from_us(go, 4),
        "cookie-from-them": lambda: cookie_from_them(go, 4),
    }
    try:
        print(json.dumps(scenarios[scenario]()))
    finally:
        go.process.kill()
        go.process.wait()


if __name__ == "__main__":
    main()
