"""The `wg` socket's requests: whatever is said, the answers are well-formed, and a change keeps each prefix with one
peer."""

from __future__ import annotations

from fuzz.bites import Bites
from tulle_wireguard.crypto import public_key
from tulle_wireguard.interface import Interface
from tulle_wireguard.uapi import Get, Refusal, Request, RequestReader, Set, status

_A, _B = ((bytes([number]) * 32).hex() for number in (1, 2))
SEEDS = [
    b"\x01get=1\n\n",
    f"\x07set=1\nprivate_key={_A}\nlisten_port=51820\nfwmark=1\nreplace_peers=true\n\nget=1\n\n".encode(),
    f"\x20set=1\npublic_key={_A}\nupdate_only=true\npreshared_key={_B}\nendpoint=192.0.2.1:5\n"
    f"persistent_keepalive_interval=25\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=-::/0\n"
    f"protocol_version=1\npublic_key={_B}\nendpoint=[2001:db8::1]:5\nallowed_ip=10.0.0.0/8\n\n".encode(),
    f"\x40set=1\npublic_key={_A}\nallowed_ip=fd00::/64\n\nset=1\npublic_key={_A}\nremove=true\n\n\n".encode(),
    b"\x03set=1\nlisten_port=65536\n\nset=2\n\n",
    b"\xffset=1\n" + b"x" * 1100,
]


def target(data: bytes) -> None:
    """The first byte says how the stream is cut into pieces as they arrive."""
    bites = Bites(data)
    step = bites.number() or 1
    stream = bites.rest()
    found = _read(stream, len(stream) or 1)
    assert _kinds(_read(stream, step)) == _kinds(found)
    interface = Interface()
    for one in found:
        if isinstance(one, Set):
            interface = interface.altered(one)
            held = [prefix for peer in interface.peers.values() for prefix in peer.allowed_ips]
            assert len(held) == len(set(held))
            assert public_key(interface.private_key) not in interface.peers
        elif isinstance(one, Refusal):
            assert status(one.error).startswith(b"errno=-")
            assert one.reason.isprintable()
        else:
            assert isinstance(one, Get)


def _read(stream: bytes, step: int) -> list[Request]:
    reader = RequestReader()
    return [one for at in range(0, len(stream), step) for one in reader.receive(stream[at : at + step])]


def _kinds(found: list[Request]) -> list[object]:
    return [one if isinstance(one, Set) else (type(one), getattr(one, "error", 0)) for one in found]
