"""What the state file makes the next tulled do, and that no state of it stops a start."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from tulle_extension import record
from tulle_extension.calls import Call, Done
from tulle_extension.options import ExtensionOptions
from tulle_extension.record import FILE, Record

OPTIONS = ExtensionOptions(subnet_add_command="add secret", subnet_remove_command="remove")
DONE = {"10.42.2.0-24": Done(Call({"SUBNET": "10.42.2.0/24"}, "key"), added=True)}
WHOLE = Record(
    era="now", pre="p", data_text="key", post="q", commands=record.commands_hash(OPTIONS), peers=DONE
)


def test_what_was_saved_is_loaded_in_the_same_era(tmp_path: Path) -> None:
    record.save(tmp_path, WHOLE)
    assert record.load(tmp_path, OPTIONS, "now") == WHOLE


def test_another_boot_or_namespace_begins_anew(tmp_path: Path) -> None:
    record.save(tmp_path, WHOLE)
    assert record.load(tmp_path, OPTIONS, "later") == Record(era="later", commands=WHOLE.commands)


def test_other_commands_for_peers_are_run_once_more_for_each(tmp_path: Path) -> None:
    record.save(tmp_path, WHOLE)
    other = msgspec.structs.replace(OPTIONS, subnet_add_command="add otherwise")
    found = record.load(tmp_path, other, "now")
    assert found.peers == {key: Done(done.call, added=False) for key, done in DONE.items()}
    assert (found.pre, found.data_text, found.post) == ("p", "key", "q")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"era": 7}', b"\xff\xfe", b'{"era":"now","peers":{"x":1}}']
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    assert record.load(tmp_path, OPTIONS, "now") == Record(era="now", commands=WHOLE.commands)


def test_it_is_for_its_owner_alone_and_names_no_command(tmp_path: Path) -> None:
    record.save(tmp_path, WHOLE)
    path = tmp_path / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"secret" not in path.read_bytes()


def test_forgetting_twice_is_as_good_as_once(tmp_path: Path) -> None:
    record.save(tmp_path, WHOLE)
    record.forget(tmp_path)
    record.forget(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_a_call_differs_by_command_by_variable_and_by_text() -> None:
    calls = [
        ("a", Call({"X": "1"})),
        ("b", Call({"X": "1"})),
        ("a", Call({"X": "2"})),
        ("a", Call({"X": "1"}, "t")),
    ]
    assert len({record.call_hash(*one) for one in calls}) == len(calls)


def test_the_era_is_that_of_this_boot_and_namespace() -> None:
    boot, namespace = record.this_era().split(" ")
    assert len(boot) == 36
    assert namespace.startswith("net:[")
