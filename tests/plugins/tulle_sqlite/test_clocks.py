"""Lease time goes on evenly when the wall clock does not."""

from __future__ import annotations

import pytest

from tulle_sqlite.clocks import Anchor, Reading, anchor_at, lease_time, read_clocks, settle

NOON = Reading(wall=1_000_000.0, steady=500.0, boot="a")
LATER = Reading(wall=1_000_010.0, steady=510.0, boot="a")


def test_within_a_boot_lease_time_is_steady_whatever_the_wall_clock_says() -> None:
    anchor = anchor_at(NOON)
    assert lease_time(anchor, NOON) == NOON.wall
    for wall in (0.0, 1_000_010.0, 9e9):
        assert lease_time(anchor, Reading(wall, 510.0, "a")) == 1_000_010.0


def test_after_a_reboot_lease_time_is_the_wall_clock() -> None:
    assert lease_time(anchor_at(NOON), Reading(wall=1_000_100.0, steady=3.0, boot="b")) == 1_000_100.0


@pytest.mark.parametrize("step_s", [-86_400.0, -1.5, 1.5, 86_400.0])
def test_a_step_moves_all_expiry_times_along(step_s: float) -> None:
    anchor = anchor_at(NOON)
    stepped = Reading(LATER.wall + step_s, LATER.steady, "a")
    settled = settle(anchor, stepped)
    assert settled.shift_s == step_s
    assert not settled.rebooted
    expires = NOON.wall + 60
    left_before = expires - lease_time(anchor, stepped)
    assert expires + settled.shift_s - lease_time(settled.anchor, stepped) == left_before == 50
    assert settle(settled.anchor, stepped).shift_s == 0


@pytest.mark.parametrize("drift_s", [-0.9, 0.0, 0.9])
def test_a_little_drift_is_left_alone(drift_s: float) -> None:
    anchor = anchor_at(NOON)
    settled = settle(anchor, Reading(LATER.wall + drift_s, LATER.steady, "a"))
    assert (settled.anchor, settled.shift_s, settled.rebooted) == (anchor, 0.0, False)


def test_a_reboot_is_known_by_its_id() -> None:
    settled = settle(anchor_at(NOON), Reading(wall=1_000_100.0, steady=500.0, boot="b"))
    assert settled.rebooted
    assert settled.shift_s == 0
    assert settled.anchor == Anchor("b", 999_600.0)


def test_the_machines_clocks_can_be_read() -> None:
    first, second = read_clocks(), read_clocks()
    assert first.boot == second.boot != ""
    assert first.steady <= second.steady
