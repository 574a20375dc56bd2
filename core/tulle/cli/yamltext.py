"""JSON-like data as YAML: maps and lists in block style; texts plain where no reader could take them for anything else,
else in double quotes as JSON writes them, which YAML reads alike (YAML 1.2.2 section 7.3.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./(-][A-Za-z0-9_./()-]*)*", re.ASCII)
"""Begins with what begins no number, tag, quote or list; without ":", "#" and what else means something somewhere."""
_WORDS = frozenset(["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"])
"""Booleans and the like in YAML 1.1, which most readers still speak, or 1.2."""
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""What JSON leaves as it is and YAML does not take raw (section 5.1), or would take for the end of a line."""


def to_yaml(value: Any) -> str:
    """Ends with a line feed. Takes what JSON can hold: dicts with texts as keys, lists, texts, numbers, True, None."""
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{indent}{_text(key)}:", item, indent)
    elif isinstance(value, list | tuple) and value:
        for item in value:
            inner = [*_block(item, indent + "  ")]
            yield f"{indent}- {inner[0][len(indent) + 2 :]}"
            yield from inner[1:]
    else:
        yield indent + _scalar(value)


def _entry(head: str, item: Any, indent: str) -> Iterator[str]:
    if item and isinstance(item, dict | list | tuple):
        yield head
        yield from _block(item, indent + "  ")
    else:
        yield f"{head} {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and "e" in repr(value):
        # YAML 1.1 wants a point before an exponent and a sign behind it; else it is a text.
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}e{int(exponent):+03d}"
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
