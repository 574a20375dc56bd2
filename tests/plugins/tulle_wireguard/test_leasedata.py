"""What a lease says: flannel's fields are read and written, and whatever else stands there is a reason and no fault."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.keytext import key_text
from tulle_wireguard.leasedata import LeaseData, Unreadable, lease_data, parse_lease_data

PUBLIC = bytes(range(32))
TEXT = key_text(PUBLIC)


def test_what_we_write_is_flannels_json() -> None:
    data = lease_data(PUBLIC, 51820)
    assert msgspec.json.encode(data) == b'{"PublicKey":"%s","Port":51820}' % TEXT.encode()
    assert parse_lease_data(data, 7) == LeaseData(TEXT, 51820)


@pytest.mark.parametrize(
    "data", [{"PublicKey": TEXT}, {"PublicKey": TEXT, "Port": 0}, {"PublicKey": TEXT, "Port": None}]
)
def test_a_port_that_is_missing_or_zero_is_ours(data: dict[str, object]) -> None:
    assert parse_lease_data(data, 4711) == LeaseData(TEXT, 4711)


def test_a_former_key_is_told_and_one_that_makes_no_sense_is_as_good_as_none() -> None:
    former = bytes(range(1, 33))
    data = lease_data(PUBLIC, 1, former)
    assert parse_lease_data(data, 1) == LeaseData(TEXT, 1, key_text(former))
    for odd in (None, "", "x", 7, [], key_text(bytes(32)), TEXT):
        assert parse_lease_data({**data, "FormerPublicKey": odd}, 1) == LeaseData(TEXT, 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "has no PublicKey"),
        ({"PublicKey": None}, "has no PublicKey"),
        ({"PublicKey": "x"}, "has a PublicKey that is none"),
        ({"PublicKey": key_text(bytes(32))}, "of zeros"),
        ({"PublicKey": TEXT, "Port": -1}, "has a Port that is none: -1"),
        ({"PublicKey": TEXT, "Port": 65536}, "has a Port that is none: 65536"),
        ({"PublicKey": TEXT, "Port": "51820"}, "has a Port"),
        ({"PublicKey": TEXT, "Port": True}, "has a Port"),
        ({"PublicKey": TEXT, "Port": False}, "has a Port"),
        ({"PublicKey": TEXT, "Port": 51820.0}, "has a Port"),
    ],
)
def test_what_cannot_be_read_is_said(data: dict[str, object], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        parse_lease_data(data, 51820)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["PublicKey", "Port", "Other"]), JSON))
def test_whatever_stands_there_is_read_or_refused_in_one_short_line(data: dict[str, object]) -> None:
    try:
        said = str(1 <= parse_lease_data(data, 1).port <= 65535)
    except Unreadable as error:
        said = str(error)
    assert said == "True" or said.startswith("has ")
    assert len(said) < 120
