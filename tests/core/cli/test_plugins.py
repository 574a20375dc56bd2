"""`tulle plugins list`: what is installed, for people and for programs."""

from __future__ import annotations

import json
import re
from typing import Any

from tulle import __version__

SHIPPED = {"etcd", "memory", "python-engine", "sqlite", "udp"}


def test_json_has_name_version_kinds_hooks_and_origin_of_each(tulle: Any) -> None:
    said = tulle("plugins", "list", "-o", "json")
    assert said.status == 0
    by_name = {one["name"]: one for one in json.loads(said.out)}
    assert set(by_name) >= SHIPPED
    udp = by_name["udp"]
    assert udp["version"] == __version__
    assert set(udp["kinds"]) >= {"backend", "encapsulation"}
    assert set(udp["hooks"]) >= {"tulle_backends", "tulle_encapsulations"}
    assert set(udp["provides"]) >= {"backend:udp", "encapsulation:udp"}
    assert udp["origin"] == "tulle (tulle_udp)"
    assert [one["name"] for one in by_name.values() if one["error"] and one["name"] in SHIPPED] == []


def test_the_table_has_a_line_for_each(tulle: Any) -> None:
    lines = tulle("plugins", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "PROVIDES", "HOOKS", "ORIGIN", "STATE"]
    assert {line.split()[0] for line in lines[1:]} >= SHIPPED
    assert all(line.endswith("ok") for line in lines[1:] if line.split()[0] in SHIPPED)


def test_many_of_a_kind_are_counted_and_few_are_named(tulle: Any) -> None:
    lines = {line.split()[0]: line for line in tulle("plugins", "list").out.splitlines()}
    assert re.search(r" [1-9]\d doctor-checks +tulle_doctor_checks ", lines["doctor"])
    assert " backend udp; encapsulation udp " in lines["udp"]
    assert " tulle_stores " in lines["sqlite"]
