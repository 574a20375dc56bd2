"""A stranger can implement a contract from what it says: every member of every protocol is explained."""

from __future__ import annotations

import ast
from pathlib import Path


def protocols(text: str) -> list[ast.ClassDef]:
    """Classes that other people implement."""
    return [
        one
        for one in ast.parse(text).body
        if isinstance(one, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in one.bases)
    ]


def test_every_method_of_a_contract_says_what_its_signature_cannot(checkout: Path) -> None:
    found = {
        f"{one.name}.{method.name}": ast.get_docstring(method)
        for path in (checkout / "core/tulle/contracts").glob("*.py")
        for one in protocols(path.read_text())
        for method in one.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(found) > 50
    assert [name for name, text in found.items() if not text] == []
