"""The wanted settings of a WireGuard interface, and what a request changes in them. Pure.

An `Interface` is never changed: a request gives another one, or the same where it asks for nothing, so that what cannot
be done in the kernel afterwards has done no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from tulle.net.prefix import Prefix
from tulle_wireguard.crypto import public_key
from tulle_wireguard.place import Place
from tulle_wireguard.uapi import NO_KEY, AllowedIp, PeerChange, Set


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a peer."""

    public_key: bytes
    preshared_key: bytes = NO_KEY
    endpoint: Place | None = None
    keepalive_s: int = 0
    allowed_ips: frozenset[Prefix] = frozenset()

    def in_order(self) -> list[Prefix]:
        """Its allowed IPs as they are shown: each time alike."""
        return sorted(
            self.allowed_ips, key=lambda one: (one.version, int(one.network_address), one.prefixlen)
        )


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of an interface. Each prefix has one peer: who got it last."""

    private_key: bytes = NO_KEY
    listen_port: int = 0
    fwmark: int = 0
    peers: Mapping[bytes, PeerSettings] = {}
    """By public key, in the order in which they came."""

    def altered(self, change: Set) -> Interface:
        """After this request. Whoever has our own public key is no peer: that would be ourselves."""
        private = self.private_key if change.private_key is None else change.private_key
        ourselves = None if private == NO_KEY else public_key(private)
        peers = _Peers({} if change.replace_peers else self.peers)
        if ourselves is not None:
            peers.remove(ourselves)
        for one in change.peers:
            if one.public_key != ourselves:
                peers.alter(one)
        return Interface(
            private_key=private,
            listen_port=self.listen_port if change.listen_port is None else change.listen_port,
            fwmark=self.fwmark if change.fwmark is None else change.fwmark,
            peers=peers.settings,
        )


class _Peers:
    """The peers while a request is worked off: the owners of prefixes are known, so that each line is quick."""

    def __init__(self, settings: Mapping[bytes, PeerSettings]) -> None:
        self.settings = dict(settings)
        self._owners: dict[Prefix, bytes] | None = None

    def remove(self, public: bytes) -> None:
        gone = self.settings.pop(public, None)
        if gone is not None and self._owners is not None:
            for prefix in gone.allowed_ips:
                del self._owners[prefix]

    def alter(self, change: PeerChange) -> None:
        public = change.public_key
        if change.remove:
            self.remove(public)
            return
        before = self.settings.get(public)
        if before is None:
            if change.update_only:
                return
            before = PeerSettings(public_key=public)
        changed = {
            "preshared_key": change.preshared_key,
            "endpoint": change.endpoint,
            "keepalive_s": change.keepalive_s,
        }
        given = {name: value for name, value in changed.items() if value is not None}
        self.settings[public] = msgspec.structs.replace(before, **given) if given else before
        if change.replace_allowed_ips or change.allowed_ips:
            self._alter_allowed(public, change.replace_allowed_ips, change.allowed_ips)

    def _alter_allowed(self, public: bytes, replace: bool, changes: Iterable[AllowedIp]) -> None:
        owners = self._all_owners()
        allowed = set(self.settings[public].allowed_ips)
        if replace:
            for prefix in allowed:
                del owners[prefix]
            allowed.clear()
        for one in changes:
            if one.remove:
                if one.prefix in allowed:
                    allowed.remove(one.prefix)
                    del owners[one.prefix]
            else:
                self._take_from_owner(one.prefix, public)
                owners[one.prefix] = public
                allowed.add(one.prefix)
        self._allow(public, frozenset(allowed))

    def _take_from_owner(self, prefix: Prefix, but: bytes) -> None:
        owner = self._all_owners().get(prefix)
        if owner is not None and owner != but:
            self._allow(owner, self.settings[owner].allowed_ips - {prefix})

    def _allow(self, public: bytes, allowed: frozenset[Prefix]) -> None:
        self.settings[public] = msgspec.structs.replace(self.settings[public], allowed_ips=allowed)

    def _all_owners(self) -> dict[Prefix, bytes]:
        if self._owners is None:
            self._owners = {
                prefix: one.public_key for one in self.settings.values() for prefix in one.allowed_ips
            }
        return self._owners
