"""What records say of themselves."""

from __future__ import annotations

import pytest

from tulle.contracts.store import NO_LEASE, LeaseId
from tulle.lease.model import RESERVED, Lease, Member


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
