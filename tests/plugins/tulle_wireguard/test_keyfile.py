"""The key file is made once, kept whole, private, and never overwritten where it cannot be understood."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tulle_wireguard.crypto import public_key
from tulle_wireguard.keyfile import KeyFileError, Keys, load_keys, new_private, save_keys
from tulle_wireguard.keytext import key_text

KEY = new_private(lambda size: bytes(range(100, 100 + size)))
OLD = new_private(lambda size: bytes(range(50, 50 + size)))


def no_random(size: int) -> bytes:
    raise AssertionError("a new key must not be made")


def test_defect_9_a_key_is_made_once_private_and_the_same_at_each_start(tmp_path: Path) -> None:
    path = tmp_path / "state" / "wireguard.key"
    made = load_keys(path, os.urandom)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() == key_text(made.private) + "\n"
    assert load_keys(path, no_random) == made
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_two_nodes_have_two_keys(tmp_path: Path) -> None:
    assert load_keys(tmp_path / "a", os.urandom) != load_keys(tmp_path / "b", os.urandom)


def test_a_key_is_clamped_so_that_all_programs_show_the_same(tmp_path: Path) -> None:
    key = new_private(lambda size: b"\xff" * size)
    assert (key[0] & 7, key[31] & 0xC0) == (0, 0x40)
    assert public_key(key) == public_key(b"\xff" * 32)


def test_a_key_made_by_wg_genkey_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    for ending in ("\n", "", "\r\n", "\n\n"):
        path.write_text(key_text(KEY) + ending)
        assert load_keys(path, no_random) == Keys(KEY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\0" * 45,
        b"damaged\n",
        key_text(KEY)[:-3].encode(),
        key_text(bytes(32)).encode(),
        b"\xff" * 44,
        f"{key_text(KEY)}\nprevious\n".encode(),
        f"{key_text(KEY)}\nprevious {key_text(OLD)} until soon\n".encode(),
        f"{key_text(KEY)}\nformer {key_text(OLD)} until 7\n".encode(),
        f"{key_text(KEY)}\n{key_text(OLD)}\n".encode(),
        key_text(KEY).encode() * 100,
    ],
)
def test_a_damaged_one_is_an_error_that_says_what_to_do_and_stays_as_it_is(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "wireguard.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="restore the file, or remove it") as raised:
        load_keys(path, no_random)
    assert str(path) in str(raised.value)
    assert path.read_bytes() == content
    assert key_text(KEY)[:20] not in str(raised.value)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path)])
def test_what_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path, make: object) -> None:
    path = tmp_path / "wireguard.key"
    make(path)  # type: ignore[operator]
    with pytest.raises(KeyFileError, match=r"cannot be read .*; mend that, or remove the file"):
        load_keys(path, no_random)
    assert path.is_symlink() or path.is_dir()


def test_a_pipe_in_its_place_is_an_error_and_no_wait(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    os.mkfifo(path)
    with pytest.raises(KeyFileError):
        load_keys(path, no_random)


def test_a_directory_that_cannot_be_written_is_an_error_that_names_the_flag() -> None:
    with pytest.raises(KeyFileError, match=r"cannot be written .* --state-dir"):
        load_keys(Path("/proc/none/wireguard.key"), os.urandom)


def test_a_previous_key_is_kept_and_taken_until_its_time(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.key"
    save_keys(path, Keys(KEY, OLD, 1000.0))
    keys = load_keys(path, no_random)
    assert keys == Keys(KEY, OLD, 1000.0)
    assert (keys.accepted(999.9), keys.accepted(1000.0)) == (OLD, b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save_keys(path, Keys(KEY))
    assert load_keys(path, no_random) == Keys(KEY)


def test_keys_do_not_show_themselves() -> None:
    shown = repr(Keys(KEY, OLD, 5.0)) + str(Keys(KEY, OLD, 5.0))
    assert key_text(KEY) not in shown
    assert key_text(OLD) not in shown
    assert repr(KEY) not in shown
