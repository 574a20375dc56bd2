"""Hypothesis' way to inputs: nothing but noise, or a seed with a few changes, which gets further in."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

NOISE_BYTES = 300
CHANGES = 6
INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0",
    b"\xff\xff",
    b'"',
    b"[",
    b"{",
    b"]",
    b"}",
    b"\n",
    b":",
    b"%",
)


@st.composite
def changed(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with a few bytes replaced, removed, inserted or repeated, and perhaps cut short."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, CHANGES))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 4))
        new = draw(st.one_of(st.binary(min_size=size, max_size=size), st.sampled_from(INTERESTING)))
        match draw(st.sampled_from(("replace", "insert", "remove", "repeat", "cut"))):
            case "replace":
                data[at : at + len(new)] = new
            case "insert":
                data[at:at] = new
            case "remove":
                del data[at : at + 1 + size]
            case "repeat":
                data[at:at] = data[at : at + 8 * (1 + size)]
            case "cut":
                del data[at:]
    return bytes(data)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(changed(seeds), st.binary(max_size=NOISE_BYTES))
