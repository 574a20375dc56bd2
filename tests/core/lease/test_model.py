"""What records say of themselves."""

from __future__ import annotations

import pytest

from tulle.contracts.store import NO_LEASE, LeaseId
from tulle.lease.model import MTU, RESERVED, Lease, Member


def test_a_lease_without_a_ttl_is_reserved() -> None:
    assert Lease("10.5.9.0-24", (), store_lease=NO_LEASE).reserved
    assert not Lease("10.5.9.0-24", (), store_lease=LeaseId(7)).reserved


@pytest.mark.parametrize(
    ("extra", "reserved"), [({RESERVED: True}, True), ({RESERVED: "yes"}, False), ({}, False)]
)
def test_a_record_is_a_persons_reservation_only_where_it_says_so_itself(
    extra: dict[str, object], reserved: bool
) -> None:
    assert Member("n1", "", "", extra=extra).reserved is reserved


@pytest.mark.parametrize(
    ("told", "mtu"), [(1450, 1450), (68, 68), (67, 0), (65536, 0), (True, 0), ("1450", 0), (None, 0), ([], 0)]
)
def test_an_mtu_that_there_is_not_is_none(told: object, mtu: int) -> None:
    assert Member("n1", "", "", extra={MTU: told}).mtu == mtu
    assert Member("n1", "", "").mtu == 0
