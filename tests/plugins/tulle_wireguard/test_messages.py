"""The four messages: where each field lies, and what is no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard import messages
from tulle_wireguard.messages import CookieReply, Initiation, Response, Transport

INDEX, INDEX_BYTES = 0x01020304, b"\x04\x03\x02\x01"
OTHER, OTHER_BYTES = 0xA0B0C0D0, b"\xd0\xc0\xb0\xa0"


def filled(letter: str, size: int) -> bytes:
    return letter.encode() * size


def test_an_initiation_has_its_fields_where_the_paper_has_them() -> None:
    made = Initiation(
        INDEX, filled("e", 32), filled("s", 48), filled("t", 28), filled("1", 16), filled("2", 16)
    )
    wire = made.encode()
    assert len(wire) == 148
    assert wire[:8] == b"\x01\0\0\0" + INDEX_BYTES
    assert wire[8:40] == filled("e", 32)
    assert wire[40:88] == filled("s", 48)
    assert wire[88:116] == filled("t", 28)
    assert wire[116:132] == filled("1", 16)
    assert wire[132:] == filled("2", 16)
    assert messages.decode(wire) == made


def test_a_response_has_its_fields_where_the_paper_has_them() -> None:
    made = Response(INDEX, OTHER, filled("e", 32), filled("n", 16), filled("1", 16), filled("2", 16))
    wire = made.encode()
    assert len(wire) == 92
    assert wire[:12] == b"\x02\0\0\0" + INDEX_BYTES + OTHER_BYTES
    assert wire[12:44] == filled("e", 32)
    assert wire[44:60] == filled("n", 16)
    assert wire[60:76] == filled("1", 16)
    assert wire[76:] == filled("2", 16)
    assert messages.decode(wire) == made


def test_a_cookie_reply_has_its_fields_where_the_paper_has_them() -> None:
    made = CookieReply(INDEX, filled("n", 24), filled("c", 32))
    wire = made.encode()
    assert len(wire) == 64
    assert wire == b"\x03\0\0\0" + INDEX_BYTES + filled("n", 24) + filled("c", 32)
    assert messages.decode(wire) == made


def test_a_transport_message_has_its_fields_where_the_paper_has_them() -> None:
    made = Transport(INDEX, 0x0807060504030201, filled("x", 48))
    wire = made.encode()
    assert wire == b"\x04\0\0\0" + INDEX_BYTES + bytes(range(1, 9)) + filled("x", 48)
    assert messages.decode(wire) == made


@pytest.mark.parametrize(("number", "size"), [(1, 148), (2, 92), (3, 64), (4, 32)])
def test_only_the_exact_length_and_zeros_after_the_type_make_a_message(number: int, size: int) -> None:
    wire = bytes([number]) + bytes(size - 1)
    assert messages.kind(wire) == number
    assert messages.kind(wire[:-1]) is None
    assert messages.kind(wire + b"\0") == (4 if number == 4 else None)
    for place in (1, 2, 3):
        assert messages.kind(wire[:place] + b"\x01" + wire[place + 1 :]) is None


@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda n, b: bytes([n, 0, 0, 0]) + b, st.integers(0, 6), st.binary(max_size=200)),
    )
)
def test_any_bytes_are_one_of_the_four_or_nothing(data: bytes) -> None:
    found = messages.decode(data)
    assert (found is None) == (messages.kind(data) is None)
    assert messages.decode(memoryview(data)) == found
    if found is not None:
        assert found.encode() == data
