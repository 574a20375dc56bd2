"""The handshake pattern against published vectors, and against the PyPI package noiseprotocol as the other side.

Vectors: github.com/flynn/noise v1.1.0, vectors.txt, all that have this name.
"""

from __future__ import annotations

import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle_wireguard import crypto, noise
from tulle_wireguard.constants import CONSTRUCTION, IDENTIFIER

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports names that cryptography has moved
    from noise.connection import Keypair, NoiseConnection

unhex = bytes.fromhex

INIT_STATIC = bytearray(range(32))
RESP_STATIC = bytearray(range(1, 33))
INIT_EPHEMERAL = bytearray(range(0x20, 0x40))
RESP_EPHEMERAL = bytearray(range(0x41, 0x61))
PSK = b"!verysecretverysecretverysecret!"
START = "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
STATIC = "d06f15f78ad0914d9715147bb5a5004b27345a838bab4aa8bc5f144afc2cf4cc"
ANSWER = "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466"

S0, S1 = "a972105ba526e8c92b759e028200e7", "b88f9ea1ebd99e94b76e50af7eee0e59"
EMPTY_0, EMPTY_1 = "66f827aa12a04ecbc0bdcd9e574e007945", "549f4f47de925ee65c9dee48f8990082"
FULL_0 = "666a3d77b86f9aa87dcfe685e771e38b97d3c5996368c663051641"
FULL_1 = "6a3d77b86f9aa87dcfe61d972bc6f34d0e93751d1260fa6bf0fe"
ASK, REPLY = b"test_msg_0", b"test_msg_1"
VECTORS = [
    (b"", b"", b"", S0 + EMPTY_0, "8c46d966ca4fe339f9e47fd25f68de8a"),
    (b"", ASK, REPLY, S0 + FULL_0, "168e6913e78d7a2b04b2f3d5529e73e953bafe6c7ce2b1005367"),
    (b"notsecret", b"", b"", S1 + EMPTY_1, "5db536cf97f15c6ece2431fc1c0057b4"),
    (b"notsecret", ASK, REPLY, S1 + FULL_1, "168e6913e78d7a2b04b2b154c5149032d1c2584051bdcf04db1d"),
]
"""Prologue, payloads, then what follows the ephemeral and the static key on the wire."""
TO_RESPONDER = (b"yellowsubmarine", "6013ea114b4c4884afb82bf029f72f924bd8a32c487a15a1cef4855ba234be")
TO_INITIATOR = (b"submarineyellow", "8a2e7119635e41a35b7e64e0adac5483b66b1a9827895124ea07d58440b654")


def knows(private: bytearray) -> noise.StaticStatic:
    """A responder that talks to everybody."""
    return lambda static: crypto.dh(private, static)


def first(
    prologue: bytes = IDENTIFIER,
    payload: bytes = b"",
    private: bytearray = INIT_STATIC,
    ephemeral: bytearray = INIT_EPHEMERAL,
) -> tuple[noise.Started, tuple[bytes, bytes, bytes]]:
    responder = crypto.public_key(RESP_STATIC)
    shared = crypto.dh(private, responder)
    assert shared is not None
    made = noise.start(private, responder, shared, ephemeral, payload, prologue)
    assert made is not None
    return made


def read_first(
    message: tuple[bytes, bytes, bytes], prologue: bytes = IDENTIFIER
) -> tuple[noise.Asked, bytes] | None:
    public = crypto.public_key(RESP_STATIC)
    return noise.read_start(RESP_STATIC, public, knows(RESP_STATIC), message, prologue)


@pytest.mark.parametrize(("prologue", "payload", "back", "sealed", "answer"), VECTORS)
def test_the_published_vectors(
    prologue: bytes, payload: bytes, back: bytes, sealed: str, answer: str
) -> None:
    started, message = first(prologue, payload)
    assert b"".join(message).hex()[:64] == START
    assert b"".join(message).hex()[64:128] == STATIC
    assert b"".join(message).hex()[128:] == sealed
    read = read_first(message, prologue)
    assert read is not None
    assert read[1] == payload
    assert read[0].static == crypto.public_key(INIT_STATIC)
    answered = noise.answer(read[0], RESP_EPHEMERAL, PSK, back)
    assert answered is not None
    assert noise.answer(read[0], RESP_EPHEMERAL, PSK, back) == answered
    reply, responder_keys = answered
    assert b"".join(reply).hex() == ANSWER + answer
    finished = noise.read_answer(started, PSK, reply)
    assert finished is not None
    assert finished[0] == back
    initiator_keys = finished[1]
    assert crypto.seal(initiator_keys.send, TO_RESPONDER[0], b"").hex() == TO_RESPONDER[1]
    assert crypto.seal(responder_keys.send, TO_INITIATOR[0], b"").hex() == TO_INITIATOR[1]
    assert initiator_keys == (responder_keys.receive, responder_keys.send)


def other(*, initiator: bool, psk: bytes) -> NoiseConnection:
    """noiseprotocol with the static keys of one side."""
    made = NoiseConnection.from_name(CONSTRUCTION)
    made.set_psks(psk)
    made.set_prologue(IDENTIFIER)
    if initiator:
        made.set_as_initiator()
        made.set_keypair_from_private_bytes(Keypair.STATIC, bytes(INIT_STATIC))
        made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, crypto.public_key(RESP_STATIC))
    else:
        made.set_as_responder()
        made.set_keypair_from_private_bytes(Keypair.STATIC, bytes(RESP_STATIC))
    made.start_handshake()
    return made


@pytest.mark.parametrize("psk", [bytes(32), PSK])
def test_we_start_and_noiseprotocol_answers(psk: bytes) -> None:
    started, message = first(payload=b"timestamp---")
    them = other(initiator=False, psk=psk)
    assert them.read_message(b"".join(message)) == b"timestamp---"
    reply = bytes(them.write_message(b"hello"))
    finished = noise.read_answer(started, psk, (reply[:32], reply[32:]))
    assert finished is not None
    payload, keys = finished
    assert payload == b"hello"
    assert them.decrypt(crypto.seal(keys.send, b"there", b"")) == b"there"
    assert crypto.unseal(keys.receive, them.encrypt(b"back"), b"") == b"back"


@pytest.mark.parametrize("psk", [bytes(32), PSK])
def test_noiseprotocol_starts_and_we_answer(psk: bytes) -> None:
    them = other(initiator=True, psk=psk)
    message = bytes(them.write_message(b"timestamp---"))
    read = read_first((message[:32], message[32:80], message[80:]))
    assert read is not None
    asked, payload = read
    assert payload == b"timestamp---"
    answered = noise.answer(asked, RESP_EPHEMERAL, psk)
    assert answered is not None
    reply, keys = answered
    assert them.read_message(b"".join(reply)) == b""
    assert them.decrypt(crypto.seal(keys.send, b"there", b"")) == b"there"
    assert crypto.unseal(keys.receive, them.encrypt(b"back"), b"") == b"back"


def changed(pieces: tuple[bytes, ...], rng: random.Random) -> tuple[bytes, ...]:
    made = [bytearray(piece) for piece in pieces]
    piece = rng.choice(made)
    piece[rng.randrange(len(piece))] ^= 1 << rng.randrange(8)
    return tuple(bytes(one) for one in made)


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_a_changed_message_is_nothing_and_spoils_no_handshake(rng: random.Random) -> None:
    started, message = first(payload=b"timestamp---")
    forged = changed(message, rng)
    # The top bit of a public key is ignored by X25519 (RFC 7748 section 5), but it is hashed.
    assert read_first((forged[0], forged[1], forged[2])) is None
    read = read_first(message)
    assert read is not None
    answered = noise.answer(read[0], RESP_EPHEMERAL, PSK)
    assert answered is not None
    bad = changed(answered[0], rng)
    assert noise.read_answer(started, PSK, (bad[0], bad[1])) is None
    assert noise.read_answer(started, bytes(32), answered[0]) is None
    assert noise.read_answer(started, PSK, answered[0]) is not None


def test_a_key_without_a_secret_is_refused_in_every_place() -> None:
    zero = bytes(32)
    assert noise.start(INIT_STATIC, zero, zero, INIT_EPHEMERAL, b"", IDENTIFIER) is None
    started, message = first()
    assert read_first((zero, message[1], message[2])) is None
    assert noise.read_answer(started, PSK, (zero, bytes(16))) is None
    asked = noise.Asked(started.symmetric, crypto.public_key(INIT_STATIC), zero)
    assert noise.answer(asked, RESP_EPHEMERAL, PSK) is None


def test_who_is_not_known_gets_no_further() -> None:
    _, message = first()
    public = crypto.public_key(RESP_STATIC)
    assert noise.read_start(RESP_STATIC, public, lambda static: None, message, IDENTIFIER) is None
