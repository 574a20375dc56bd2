"""docs/operators.md knows every reason to drop, and what it says of paths and numbers is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tulle.config.core_options import CONFIG_FILE
from tulle.config.network import parse_network_config
from tulle.node.logs import MOST

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operators.md").read_text()
SOURCES = [
    path
    for folder in ("core/tulle", "plugins")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "_pb2" not in path.name and "testing" not in path.parts and "lab" not in path.parts
]
DROP = re.compile(r"drop-[a-z-]*[a-z]")


def test_every_reason_to_drop_stands_in_the_guide_or_in_its_plugins_readme() -> None:
    found: dict[str, Path] = {
        text.value: path
        for path in SOURCES
        for text in ast.walk(ast.parse(path.read_text()))
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and DROP.fullmatch(text.value)
    }
    assert "drop-source" in found
    missing = []
    for name, path in found.items():
        readme = path.parent / "README.md"
        explained = GUIDE + (readme.read_text() if readme.exists() else "")
        if name not in DROP.findall(explained):
            missing.append(name)
    assert missing == [], f"neither docs/operators.md nor a plugin's README explains: {sorted(missing)}"


@pytest.mark.parametrize(
    "said",
    [CONFIG_FILE, f"at most {MOST} lines a minute", "protocol number 116", "8285/udp", "subnet.env"],
)
def test_what_it_says_of_paths_and_numbers_is_what_the_code_does(said: str) -> None:
    assert said in GUIDE


@pytest.mark.parametrize("document", ["operators.md", "faq.md", "plugin-authors.md"])
def test_every_file_that_a_document_points_to_is_there(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    named = set(re.findall(r"(?<![\w/.-])(?:packaging|docs|examples|core|plugins)/[\w./-]*\w", text))
    named |= {f"docs/{target}" for target in re.findall(r"\]\(([\w./-]+\.md)\)", text)}
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    assert missing == []


def test_the_unit_bounds_tulled_to_the_capabilities_that_it_names() -> None:
    unit = (ROOT / "packaging" / "systemd" / "tulled.service").read_text()
    bound = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.M)
    assert bound is not None
    assert set(bound[1].split()) == set(re.findall(r"CAP_[A-Z_]+", GUIDE))


def test_the_network_config_of_init_is_one_that_tulled_takes() -> None:
    network = re.search(r"tulle init --network (\S+)", GUIDE)
    assert network is not None
    assert parse_network_config(f'{{"Network": "{network[1]}"}}').backend_type == "udp"
