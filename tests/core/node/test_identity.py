"""The node's id is made once and never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tulle.node import identity
from tulle.node.identity import IdentityError, node_id


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "a/state"
    made = node_id(state)
    assert len(bytes.fromhex(made)) == 16
    assert node_id(state) == made
    assert (state / "id").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in state.iterdir()] == ["id"]


def test_two_nodes_have_different_ids(tmp_path: Path) -> None:
    assert node_id(tmp_path / "one") != node_id(tmp_path / "two")


@pytest.mark.parametrize(
    "damage", [b"", b"0" * 31, b"0" * 33, b"G" * 32, b"\xff" * 32, b"0" * 16 + b"\n" + b"0" * 15]
)
def test_a_damaged_file_is_refused_by_name_and_not_overwritten(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "id"
    file.write_bytes(damage)
    with pytest.raises(IdentityError, match=r"/id: .*remove"):
        node_id(tmp_path)
    assert file.read_bytes() == damage


def test_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "id").mkdir()
    with pytest.raises(IdentityError, match="cannot be read"):
        node_id(tmp_path)


def test_where_it_cannot_be_written_the_message_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match=r"--state-dir|cannot be read"):
        node_id(tmp_path / "file")
    with pytest.raises(IdentityError, match=r"cannot be written.*--state-dir"):
        node_id(Path("/proc/tulle"))


def test_the_boot_id_is_the_kernels_or_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.path.exists("/proc/sys/kernel/random/boot_id"):
        assert len(identity.boot_id()) == 36
    monkeypatch.setattr(identity, "BOOT_ID", tmp_path / "none")
    assert identity.boot_id() == ""
