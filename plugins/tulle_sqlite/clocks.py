"""What time it is for a lease, when the wall clock may step. Pure, but for `read_clocks`.

Expiry times in the file are wall clock times, for they must mean something after a reboot. The wall clock steps,
though (NTP at boot, an administrator, a resumed VM), and a step must not take every node's lease. So the file
also holds the distance from the machine's steady clock to the wall clock. Within one boot, lease time is steady
clock + distance. Whoever writes next after a step moves the expiry times and the distance together.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

STEP_S = 1.0
"""A wall clock that is farther off than this has stepped; less is the steady clock's drift or slewing."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # random(4): new at each boot, the same in all containers


class Reading(msgspec.Struct, frozen=True):
    """What the clocks say at one moment, in seconds."""

    wall: float
    steady: float
    """CLOCK_MONOTONIC: never steps, the same for all processes of a boot. It stands still while the machine
    sleeps, and so do the nodes that would keep their leases alive."""
    boot: str
    """Which boot `steady` counts from."""


class Anchor(msgspec.Struct, frozen=True):
    """What the file remembers of the clocks."""

    boot: str
    offset: float
    """wall - steady, in that boot."""


class Settled(msgspec.Struct, frozen=True):
    """What a writer does before it looks at any lease."""

    anchor: Anchor
    shift_s: float = 0.0
    """To be added to each expiry time."""
    rebooted: bool = False
    """No lease may have more left than its whole TTL: the wall clock may have gone back meanwhile."""


def anchor_at(reading: Reading) -> Anchor:
    return Anchor(reading.boot, reading.wall - reading.steady)


def lease_time(anchor: Anchor, reading: Reading) -> float:
    """Comparable with the expiry times that were read together with this anchor."""
    if anchor.boot != reading.boot:
        return reading.wall
    return reading.steady + anchor.offset


def settle(anchor: Anchor, reading: Reading) -> Settled:
    if anchor.boot != reading.boot:
        return Settled(anchor_at(reading), rebooted=True)
    shift_s = reading.wall - reading.steady - anchor.offset
    if abs(shift_s) <= STEP_S:
        return Settled(anchor)
    return Settled(anchor_at(reading), shift_s=shift_s)


def read_clocks() -> Reading:
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = "unknown"  # without /proc all boots look alike: a lease may then outlive a reboot by its TTL
    return Reading(time.time(), time.monotonic(), boot)
