"""The changes that lead from what is there to what is wanted: each is one request to the kernel, and one line for
people. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from tulle.contracts.kernel import (
    WantedAddress,
    WantedFdb,
    WantedLink,
    WantedNeighbour,
    WantedRoute,
    WantedVxlan,
)
from tulle.kernel.rtwire import RTPROT_TULLE

Setting = Literal["alias", "mac", "mtu", "txqueuelen", "tx_checksum", "up"]


class MakeLink(msgspec.Struct, frozen=True):
    """Make a VXLAN device; all that can be changed later is set afterwards."""

    link: WantedLink
    vxlan: WantedVxlan
    lower: int
    """Index of the lower device."""

    @property
    def subject(self) -> str:
        return self.link.name

    @property
    def line(self) -> str:
        one = self.vxlan
        return f"{self.link.name}: made, VNI {one.vni} and port {one.port} over {one.link} from {one.local}"


class DeleteLink(msgspec.Struct, frozen=True):
    name: str
    index: int
    why: str

    @property
    def subject(self) -> str:
        return self.name

    @property
    def line(self) -> str:
        return f"{self.name}: removed, {self.why}"


class SetVxlan(msgspec.Struct, frozen=True):
    """Change what can be changed on a VXLAN device that is there."""

    name: str
    index: int
    vxlan: WantedVxlan
    lower: int
    what: str

    @property
    def subject(self) -> str:
        return self.name

    @property
    def line(self) -> str:
        return f"{self.name}: {self.what}"


class SetLink(msgspec.Struct, frozen=True):
    """Change one setting of a link."""

    name: str
    index: int
    setting: Setting
    value: str | int | bool
    was: str | int | bool | None

    @property
    def subject(self) -> str:
        return self.name

    @property
    def line(self) -> str:
        if self.setting == "up":
            return f"{self.name}: link was {_up(self.was)}, set {_up(self.value)}"
        if self.setting == "alias":
            return f'{self.name}: marked as ours (alias "{self.value}")'
        if self.setting == "tx_checksum":
            return f"{self.name}: tx checksum was {_on(self.was)}, set {_on(self.value)}"
        return f"{self.name}: {self.setting} was {self.was}, set to {self.value}"


class _OfAddress(msgspec.Struct, frozen=True):
    address: WantedAddress
    index: int

    @property
    def subject(self) -> str:
        return self.address.link


class AddAddress(_OfAddress, frozen=True):
    @property
    def line(self) -> str:
        return f"{self.address.link}: address {self.address.address} was missing, added"


class RemoveAddress(_OfAddress, frozen=True):
    @property
    def line(self) -> str:
        return f"{self.address.link}: address {self.address.address} is not wanted, removed"


class _OfRoute(msgspec.Struct, frozen=True):
    route: WantedRoute

    @property
    def subject(self) -> str:
        return str(self.route.destination)


class AddRoute(_OfRoute, frozen=True):
    index: int
    """Of its link, 0 for none."""
    replaces: bool = False
    """It takes the place of another one in its slot, at once: that one lies on a device of ours."""
    passing: bool = False
    """It stands in while the route of its destination is changed; of this nobody needs to hear."""

    @property
    def line(self) -> str:
        how = "takes the place of one that was there" if self.replaces else "was missing, added"
        return f"route {self.route.text}: {how}"


class RemoveRoute(_OfRoute, frozen=True):
    protocol: int = RTPROT_TULLE
    passing: bool = False
    """As AddRoute's."""

    @property
    def line(self) -> str:
        return f"route {self.route.text}: is not wanted, removed"


class _OfNeighbour(msgspec.Struct, frozen=True):
    entry: WantedNeighbour
    index: int

    @property
    def subject(self) -> str:
        return str(self.entry.address)


class SetNeighbour(_OfNeighbour, frozen=True):
    """Takes the place of another entry for that address."""

    @property
    def line(self) -> str:
        return f"{self.entry.text}: was missing, set"


class RemoveNeighbour(_OfNeighbour, frozen=True):
    @property
    def line(self) -> str:
        return f"{self.entry.text}: is not wanted, removed"


class _OfFdb(msgspec.Struct, frozen=True):
    entry: WantedFdb
    index: int

    @property
    def subject(self) -> str:
        return self.entry.mac


class SetFdb(_OfFdb, frozen=True):
    """Takes the place of another entry for that MAC."""

    @property
    def line(self) -> str:
        return f"{self.entry.text}: was missing, set"


class RemoveFdb(_OfFdb, frozen=True):
    @property
    def line(self) -> str:
        return f"{self.entry.text}: is not wanted, removed"


LinkAction = MakeLink | DeleteLink | SetVxlan | SetLink | AddAddress | RemoveAddress
"""A handful a pass."""
EntryAction = AddRoute | RemoveRoute | SetNeighbour | RemoveNeighbour | SetFdb | RemoveFdb
"""Thousands a pass: they go in batches."""
Action = LinkAction | EntryAction


def _up(value: object) -> str:
    return "up" if value else "down"


def _on(value: object) -> str:
    return "on" if value else "off"
