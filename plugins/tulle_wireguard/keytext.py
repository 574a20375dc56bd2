"""Keys as text: 32 bytes in base64 (RFC 4648 section 4), as wg(8) writes them."""

from __future__ import annotations

from base64 import b64decode, b64encode

from tulle_wireguard.constants import KEY_BYTES

TEXT_LENGTH = 44
"""Of 32 bytes in base64, with the one "=" at the end."""


def key_bytes(text: object) -> bytes:
    """Raises ValueError whose text does not hold the value."""
    if not isinstance(text, str) or len(text) != TEXT_LENGTH:
        raise ValueError(f"it is not {KEY_BYTES} bytes in base64 ({TEXT_LENGTH} characters)")
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or b64encode(key).decode() != text:
        raise ValueError(f"it is not {KEY_BYTES} bytes in base64 ({TEXT_LENGTH} characters)")
    return key


def key_text(key: bytes) -> str:
    return b64encode(key).decode()
