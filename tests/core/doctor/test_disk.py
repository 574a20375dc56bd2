"""Room for the state directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.doctor.disk import LOW_BYTES, LOW_FILES, OUT_BYTES, existing, judge


@pytest.mark.parametrize(
    ("free", "files", "severity"),
    [
        (LOW_BYTES, None, "ok"),
        (LOW_BYTES, LOW_FILES, "ok"),
        (LOW_BYTES - 1, None, "warning"),
        (OUT_BYTES, LOW_FILES, "warning"),
        (OUT_BYTES - 1, LOW_FILES, "error"),
        (LOW_BYTES, LOW_FILES - 1, "warning"),
        (LOW_BYTES, 0, "error"),
    ],
)
def test_room_is_judged_by_bytes_and_by_files(free: int, files: int | None, severity: str) -> None:
    assert judge("/var/lib/tulle", free, files).severity == severity


def test_a_directory_that_is_not_made_yet_is_judged_by_the_one_above(tmp_path: Path) -> None:
    assert existing(tmp_path / "not" / "yet") == tmp_path
    assert existing(Path("/")) == Path("/")
