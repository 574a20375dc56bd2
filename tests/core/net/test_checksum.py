"""The Internet checksum: published examples, and any bytes against a slow sum."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tulle.net.checksum import checksum, fold, pseudo_header_sum, update, word_sum


def test_the_example_of_rfc_1071_sums_to_ddf2() -> None:
    data = bytes([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])  # section 3
    assert word_sum(data) == 0xDDF2
    assert checksum(data) == 0x220D


def test_the_example_of_rfc_1624_changes_to_zero_and_not_to_ones() -> None:
    # Section 4: the checksum 0xdd2f, a field that goes from 0x5555 to 0x3285.
    assert update(0xDD2F, b"\x55\x55", b"\x32\x85") == 0x0000


def test_a_real_ipv4_header_has_its_published_checksum() -> None:
    header = bytes.fromhex("450000730000400040110000c0a80001c0a800c7")
    assert checksum(header) == 0xB861


@given(st.binary(max_size=200))
@example(b"")
@example(bytes(9))
@example(b"\xff\xff" * 4)
@example(b"\xff\xfe\x00\x01")
def test_the_checksum_is_that_of_a_loop_over_words(slow: SimpleNamespace, data: bytes) -> None:
    assert checksum(data) == slow.checksum(data)
    assert checksum(memoryview(bytearray(data))) == slow.checksum(data)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_sum_goes_on_where_another_ended(slow: SimpleNamespace, left: bytes, right: bytes) -> None:
    left += bytes(len(left) % 2)
    assert checksum(right, word_sum(left)) == slow.checksum(left + right)


@given(st.binary(min_size=2, max_size=64))
def test_data_that_carries_its_checksum_sums_to_zero(data: bytes) -> None:
    data = b"\x45" + data + bytes((len(data) + 1) % 2)
    assert checksum(data + checksum(data).to_bytes(2)) == 0


@given(st.lists(st.integers(0, 0xFFFF), max_size=30))
def test_folding_a_plain_sum_is_the_checksum_of_the_words(slow: SimpleNamespace, words: list[int]) -> None:
    assert fold(sum(words)) == slow.checksum(b"".join(word.to_bytes(2) for word in words))


@given(
    st.sampled_from([4, 16]).flatmap(
        lambda size: st.tuples(
            st.binary(min_size=size, max_size=size), st.binary(min_size=size, max_size=size)
        )
    ),
    st.integers(0, 255),
    st.binary(max_size=100),
)
def test_a_pseudo_header_of_either_family_sums_as_laid_out(
    slow: SimpleNamespace, ends: tuple[bytes, bytes], protocol: int, body: bytes
) -> None:
    expected = slow.checksum(slow.pseudo(*ends, protocol, len(body)) + body)
    assert checksum(body, pseudo_header_sum(*ends, protocol, len(body))) == expected


@given(st.binary(min_size=4, max_size=64), st.binary(min_size=2, max_size=16), st.data())
def test_an_updated_checksum_is_the_one_made_anew(
    slow: SimpleNamespace, data: bytes, new: bytes, pick: st.DataObject
) -> None:
    data = b"\x45\x00" + data + bytes(len(data) % 2)
    new = new[: len(new) & ~1]
    at = 2 * pick.draw(st.integers(1, max(1, (len(data) - len(new)) // 2)))
    old = data[at : at + len(new)]
    new = new[: len(old)]
    changed = data[:at] + new + data[at + len(new) :]
    assert update(slow.checksum(data), old, new) == slow.checksum(changed)


@pytest.mark.parametrize(("old", "new"), [(b"ab", b"abcd"), (b"a", b"b")])
def test_a_change_that_is_not_of_whole_words_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(ValueError, match="whole words"):
        update(0, old, new)
