"""The primitives of the paper's section 5.4 by their names there: DH, Hash, Mac, Kdf_n, Aead, Xaead. No protocol.

Keys that live long are bytearrays, so that `wipe` can overwrite them. What Python and the libraries copy on the way
(results of hashes, the key inside an AEAD object) is freed and not overwritten: see README.md, "Keys in memory".
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl import bindings
from nacl.exceptions import CryptoError

from tulle.net.packet import Buffer
from tulle_wireguard.constants import COOKIE_NONCE_BYTES, KEY_BYTES, MAC_BYTES, TAG_BYTES

ZERO_NONCE = bytes(12)
"""Each key of the handshake seals one message: paper section 5.4.2."""


def dh(private: Buffer, public: Buffer) -> bytes | None:
    """X25519 (RFC 7748 section 5). None where the result is all zeros: the public key has a small order."""
    try:
        return bindings.crypto_scalarmult(bytes(private), bytes(public))
    except (RuntimeError, CryptoError):  # how libsodium's refusal of a zero result arrives here
        return None


def public_key(private: Buffer) -> bytes:
    """Of 32 private bytes, clamped or not."""
    if len(private) != KEY_BYTES:
        raise ValueError(f"a private key has {KEY_BYTES} bytes, this one {len(private)}")
    return bindings.crypto_scalarmult_base(bytes(private))


def hash_of(*parts: Buffer) -> bytes:
    """BLAKE2s-256 of the parts, one after the other."""
    state = hashlib.blake2s()
    for part in parts:
        state.update(part)
    return state.digest()


def mac(key: Buffer, data: Buffer) -> bytes:
    """Keyed BLAKE2s-128 (RFC 7693 section 2.9): not an HMAC."""
    return hashlib.blake2s(data, key=bytes(key), digest_size=MAC_BYTES).digest()


def kdf(count: int, key: Buffer, material: Buffer) -> list[bytes]:
    """HKDF (RFC 5869) with HMAC-BLAKE2s and no info: the first `count` outputs."""
    secret = hmac.digest(bytes(key), bytes(material), "blake2s")
    outputs: list[bytes] = []
    for number in range(1, count + 1):
        before = outputs[-1] if outputs else b""
        outputs.append(hmac.digest(secret, before + bytes([number]), "blake2s"))
    return outputs


def seal(key: Buffer, plain: Buffer, associated: Buffer, nonce: bytes = ZERO_NONCE) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439 section 2.8)."""
    return ChaCha20Poly1305(bytes(key)).encrypt(nonce, plain, associated)


def unseal(key: Buffer, sealed: Buffer, associated: Buffer, nonce: bytes = ZERO_NONCE) -> bytes | None:
    """The other way; None where it was not sealed by this key over these associated bytes."""
    try:
        return ChaCha20Poly1305(bytes(key)).decrypt(nonce, sealed, associated)
    except (InvalidTag, ValueError):
        return None


def xseal(key: Buffer, nonce: Buffer, plain: Buffer, associated: Buffer) -> bytes:
    """XChaCha20-Poly1305, nonces of 24 bytes (draft-irtf-cfrg-xchacha section 2.3)."""
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        bytes(plain), bytes(associated), bytes(nonce), bytes(key)
    )


def xunseal(key: Buffer, nonce: Buffer, sealed: Buffer, associated: Buffer) -> bytes | None:
    """The other way; None as `unseal`."""
    if len(nonce) != COOKIE_NONCE_BYTES or len(sealed) < TAG_BYTES:
        return None
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            bytes(sealed), bytes(associated), bytes(nonce), bytes(key)
        )
    except (CryptoError, RuntimeError):
        return None


def same(one: Buffer, other: Buffer) -> bool:
    """Equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


def wipe(*secrets: bytearray) -> None:
    """Overwrite in place. Their length stays."""
    for secret in secrets:
        secret[:] = bytes(len(secret))
