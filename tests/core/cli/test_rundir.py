"""Where tulled's socket is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.cli.rundir import RUN_DIR, configured


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('run-dir = "/run/other"', "/run/other"),
        ('run_dir = "/run/other"', "/run/other"),
        ('node-name = "n1"', RUN_DIR),
        ('run-dir = ""', RUN_DIR),
        ("run-dir = 7", RUN_DIR),
        ("not TOML", RUN_DIR),
        ("[sqlite]\nrun-dir = '/run/other'", RUN_DIR),
        ("a = " + "[" * 100_000, RUN_DIR),
    ],
)
def test_it_is_the_config_files_where_that_can_be_read(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "tulled.toml"
    file.write_text(text)
    assert configured({}, str(file)) == Path(expected)
    assert configured({"TULLED_CONFIG_FILE": str(file)}, "/nonexistent") == Path(expected)


def test_without_a_file_it_is_the_default(tmp_path: Path) -> None:
    assert configured({}, str(tmp_path / "none.toml")) == Path(RUN_DIR)
    assert configured({}, str(tmp_path)) == Path(RUN_DIR)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert configured({}, str(tmp_path / "bytes")) == Path(RUN_DIR)
