"""The primitives against the vectors of their own documents."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard import crypto

unhex = bytes.fromhex

SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
ASSOCIATED = unhex("50515253c0c1c2c3c4c5c6c7")
KEY = bytes(range(0x80, 0xA0))

SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
]
"""The points of order 1, 2, 4 and 8 of Curve25519, and 0 and 1 written as p and p + 1."""


@pytest.mark.parametrize(
    ("scalar", "point", "result"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_x25519_agrees_with_rfc_7748_section_5_2(scalar: str, point: str, result: str) -> None:
    assert crypto.dh(unhex(scalar), unhex(point)) == unhex(result)


def test_x25519_agrees_with_rfc_7748_after_many_rounds() -> None:
    """Section 5.2: 1 and 1,000 rounds from 9."""
    k = u = bytes([9]) + bytes(31)
    for number in range(1000):
        result = crypto.dh(k, u)
        assert result is not None
        k, u = result, k
        if number == 0:
            assert k == unhex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079")
    assert k == unhex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51")


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_public_key_that_gives_no_secret_is_refused(point: str) -> None:
    assert crypto.dh(KEY, unhex(point)) is None


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_both_ends_of_a_diffie_hellman_agree(one: bytes, other: bytes) -> None:
    shared = crypto.dh(one, crypto.public_key(other))
    assert shared is not None
    assert shared == crypto.dh(bytearray(other), crypto.public_key(one))


def test_a_private_key_of_another_length_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes, this one 31"):
        crypto.public_key(bytes(31))


def _sequence(length: int, seed: int) -> bytes:
    """RFC 7693 appendix E."""
    a, b, made = (0xDEAD4BAD * seed) & 0xFFFFFFFF, 1, bytearray()
    for _ in range(length):
        a, b = b, (a + b) & 0xFFFFFFFF
        made.append(b >> 24)
    return bytes(made)


def test_blake2s_agrees_with_the_self_test_of_rfc_7693() -> None:
    """Appendix E, with our functions wherever they make a hash of that kind."""
    total = hashlib.blake2s()
    for size in (16, 20, 28, 32):
        for length in (0, 3, 64, 65, 255, 1024):
            data, key = _sequence(length, length), _sequence(size, size)
            plain = crypto.hash_of(data[:2], data[2:]) if size == 32 else _blake2s(data, size)
            total.update(plain)
            total.update(crypto.mac(key, data) if size == 16 else _blake2s(data, size, key))
    assert total.hexdigest() == "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe"


def _blake2s(data: bytes, size: int, key: bytes = b"") -> bytes:
    return hashlib.blake2s(data, digest_size=size, key=key).digest()


def test_blake2s_agrees_with_rfc_7693_appendix_b() -> None:
    expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert crypto.hash_of(b"abc").hex() == expected


def test_chacha20_poly1305_agrees_with_rfc_8439_section_2_8_2() -> None:
    sealed = unhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
        "1ae10b594f09e26a7e902ecbd0600691"
    )
    nonce = unhex("070000004041424344454647")
    assert crypto.seal(KEY, SUNSCREEN, ASSOCIATED, nonce) == sealed
    assert crypto.unseal(KEY, sealed, ASSOCIATED, nonce) == SUNSCREEN


def test_xchacha20_poly1305_agrees_with_its_draft() -> None:
    """draft-irtf-cfrg-xchacha-03 appendix A.3.1."""
    sealed = unhex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"
        "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452"
        "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )
    nonce = bytes(range(0x40, 0x58))
    assert crypto.xseal(KEY, nonce, SUNSCREEN, ASSOCIATED) == sealed
    assert crypto.xunseal(KEY, nonce, sealed, ASSOCIATED) == SUNSCREEN


@given(
    st.binary(max_size=80),
    st.binary(max_size=30),
    st.one_of(st.binary(max_size=30), st.binary(min_size=24, max_size=24)),
)
def test_what_was_not_sealed_by_the_key_opens_to_nothing(
    sealed: bytes, associated: bytes, nonce: bytes
) -> None:
    assert crypto.unseal(KEY, sealed, associated) is None
    assert crypto.xunseal(KEY, nonce, sealed, associated) is None


def test_the_key_derivation_is_hkdf() -> None:
    """RFC 5869 with BLAKE2s, step by step from its text; output n is the same however many are asked for."""
    key, material = b"k" * 32, b"material"
    block = 64

    def hmac_by_hand(secret: bytes, data: bytes) -> bytes:
        padded = secret.ljust(block, b"\0")
        inner = hashlib.blake2s(bytes(one ^ 0x36 for one in padded) + data).digest()
        return hashlib.blake2s(bytes(one ^ 0x5C for one in padded) + inner).digest()

    secret = hmac_by_hand(key, material)
    first = hmac_by_hand(secret, b"\x01")
    second = hmac_by_hand(secret, first + b"\x02")
    third = hmac_by_hand(secret, second + b"\x03")
    assert crypto.kdf(3, key, material) == [first, second, third]
    assert crypto.kdf(1, key, material) == [first]


def test_a_wiped_secret_holds_zeros() -> None:
    secret, other = bytearray(b"secret"), bytearray(b"x")
    crypto.wipe(secret, other)
    assert (secret, other) == (bytearray(6), bytearray(1))
