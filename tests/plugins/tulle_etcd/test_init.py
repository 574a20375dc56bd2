"""The plugin's hooks."""

from __future__ import annotations

import subprocess
import sys

import tulle_etcd
from tulle.contracts.specs import load

FLANNEL_FLAGS = {
    *("etcd-endpoints", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "etcd-username", "etcd-password"),
}


def test_listing_the_plugin_imports_neither_grpc_nor_protobuf() -> None:
    code = "import sys, tulle_etcd; tulle_etcd.tulle_stores(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "tulle_etcd" in loaded
    assert not {"grpc", "google.protobuf", "ssl", "asyncio"} & set(loaded)


def test_flannels_flags_are_read_from_flannels_environment_and_ours_are_not() -> None:
    (spec,) = tulle_etcd.tulle_stores()
    assert {option.name for option in spec.options if option.flannel} == FLANNEL_FLAGS
    assert {option.name for option in spec.options if not option.flannel} == {"etcd-password-file"}


def test_only_the_password_is_secret() -> None:
    (spec,) = tulle_etcd.tulle_stores()
    assert [option.name for option in spec.options if option.secret] == ["etcd-password"]


def test_the_presence_of_endpoints_chooses_this_store() -> None:
    (spec,) = tulle_etcd.tulle_stores()
    assert (spec.name, spec.chosen_by, spec.embedded) == ("etcd", ("etcd-endpoints",), False)


def test_the_factory_makes_a_store_and_connects_nothing() -> None:
    (spec,) = tulle_etcd.tulle_stores()
    store = load(spec.factory)({option.name: option.default for option in spec.options})
    assert (store.name, store.single_machine) == ("etcd", False)
    assert store.location == "http://127.0.0.1:4001,http://127.0.0.1:2379"
