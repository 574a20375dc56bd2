"""What requests change in an interface: against a slow model that does one line after the other."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tulle.net.prefix import Prefix, parse_prefix
from tulle_wireguard.crypto import public_key
from tulle_wireguard.interface import Interface, PeerSettings
from tulle_wireguard.place import Place
from tulle_wireguard.uapi import NO_KEY, AllowedIp, PeerChange, Set

PRIVATE = [bytes([number]) * 32 for number in (1, 2)]
PUBLIC = [*map(public_key, PRIVATE), *(bytes([number]) * 32 for number in (7, 8))]
PREFIXES = [parse_prefix(one) for one in ("10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "::/0", "fd00::/64")]
WIDE, NARROW = PREFIXES[:2]
A, B = PUBLIC[2:]

changes = st.builds(
    PeerChange,
    public_key=st.sampled_from(PUBLIC),
    remove=st.sampled_from([False, False, False, True]),
    update_only=st.booleans(),
    preshared_key=st.none() | st.sampled_from([NO_KEY, bytes(31) + b"k"]),
    endpoint=st.none() | st.builds(Place, st.just(IPv4Address("192.0.2.1")), st.integers(1, 3)),
    keepalive_s=st.none() | st.integers(0, 2),
    replace_allowed_ips=st.booleans(),
    allowed_ips=st.lists(st.builds(AllowedIp, st.sampled_from(PREFIXES), st.booleans()), max_size=4).map(
        tuple
    ),
)
requests = st.builds(
    Set,
    private_key=st.none() | st.sampled_from([NO_KEY, *PRIVATE]),
    listen_port=st.none() | st.integers(0, 2),
    fwmark=st.none() | st.integers(0, 2),
    replace_peers=st.booleans(),
    peers=st.lists(changes, max_size=4).map(tuple),
)


class Model:
    """Dictionaries that change in place."""

    def __init__(self) -> None:
        self.device: dict[str, Any] = {"private_key": NO_KEY, "listen_port": 0, "fwmark": 0}
        self.peers: dict[bytes, dict[str, Any]] = {}
        self.owners: dict[Prefix, bytes] = {}

    def do(self, request: Set) -> None:
        for name in self.device:
            if getattr(request, name) is not None:
                self.device[name] = getattr(request, name)
        if request.replace_peers:
            for public in list(self.peers):
                self.drop(public)
        private = self.device["private_key"]
        ourselves = b"" if private == NO_KEY else public_key(private)
        self.drop(ourselves)
        for one in request.peers:
            if one.public_key != ourselves:
                self.peer(one)

    def drop(self, public: bytes) -> None:
        self.peers.pop(public, None)
        self.owners = {prefix: owner for prefix, owner in self.owners.items() if owner != public}

    def peer(self, change: PeerChange) -> None:
        public = change.public_key
        if change.remove:
            return self.drop(public)
        if public not in self.peers:
            if change.update_only:
                return None
            self.peers[public] = {"preshared_key": NO_KEY, "endpoint": None, "keepalive_s": 0}
        for name in self.peers[public]:
            if getattr(change, name) is not None:
                self.peers[public][name] = getattr(change, name)
        if change.replace_allowed_ips:
            self.owners = {prefix: owner for prefix, owner in self.owners.items() if owner != public}
        for one in change.allowed_ips:
            if not one.remove:
                self.owners[one.prefix] = public
            elif self.owners.get(one.prefix) == public:
                del self.owners[one.prefix]
        return None

    def interface(self) -> Interface:
        peers = {
            public: PeerSettings(
                public_key=public,
                allowed_ips=frozenset(prefix for prefix, owner in self.owners.items() if owner == public),
                **settings,
            )
            for public, settings in self.peers.items()
        }
        return Interface(**self.device, peers=peers)


@given(st.lists(requests, max_size=5))
def test_any_requests_do_what_they_do_one_line_after_the_other(given_: list[Set]) -> None:
    model, found = Model(), Interface()
    for one in given_:
        before = dict(found.peers), found
        after = found.altered(one)
        assert (dict(found.peers), found) == before
        model.do(one)
        found = after
        assert found == model.interface()
        assert list(found.peers) == list(model.peers)


def allowed(*prefixes: Prefix) -> tuple[AllowedIp, ...]:
    return tuple(AllowedIp(one) for one in prefixes)


def test_a_prefix_belongs_to_the_peer_that_got_it_last() -> None:
    found = Interface().altered(
        Set(
            peers=(
                PeerChange(public_key=A, allowed_ips=allowed(WIDE, NARROW)),
                PeerChange(public_key=B, allowed_ips=allowed(NARROW)),
            )
        )
    )
    assert found.peers[A].allowed_ips == {WIDE}
    assert found.peers[B].allowed_ips == {NARROW}


def test_who_has_our_own_key_is_no_peer() -> None:
    found = Interface().altered(Set(peers=(PeerChange(public_key=PUBLIC[0]), PeerChange(public_key=A))))
    assert list(found.peers) == [PUBLIC[0], A]
    found = found.altered(Set(private_key=PRIVATE[0]))
    assert list(found.peers) == [A]
    assert list(found.altered(Set(peers=(PeerChange(public_key=PUBLIC[0]),))).peers) == [A]


def test_update_only_makes_no_peer() -> None:
    change = PeerChange(public_key=A, update_only=True, keepalive_s=5)
    assert not Interface().altered(Set(peers=(change,))).peers
    found = Interface().altered(Set(peers=(PeerChange(public_key=A), change)))
    assert found.peers[A].keepalive_s == 5
