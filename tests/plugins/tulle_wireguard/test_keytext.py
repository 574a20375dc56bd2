"""Keys as text are what wg(8) writes, and nothing else."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.keytext import key_bytes, key_text


@given(st.binary(min_size=32, max_size=32))
def test_a_key_survives_the_way_to_text_and_back(key: bytes) -> None:
    assert key_bytes(key_text(key)) == key


def test_what_is_no_key_is_refused_without_being_shown() -> None:
    good = key_text(bytes(range(32)))
    wrong = [
        "",
        good[:-1],
        good + "=",
        good[:-1] + "A",
        " " + good[1:],
        "é" * 44,
        b64encode(bytes(33)).decode(),
    ]
    loose = good[:-2] + chr(ord(good[-2]) + 1) + "="  # the two bits that mean nothing are not zero
    for text in (*wrong, loose, None, 7, good.encode()):
        with pytest.raises(ValueError, match="32 bytes in base64") as raised:
            key_bytes(text)
        assert not text or str(text) not in str(raised.value)
