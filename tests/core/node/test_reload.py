"""What a new config file changes: at once, after a restart, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulle.config.flags import Parsed
from tulle.node.reload import LIVE, Changes, changes
from tulle.node.settings import gather
from tulle.plugins import load_plugins

PLUGINS = load_plugins()


def parsed(directory: Path, text: str, *words: str) -> Parsed:
    file = directory / "tulled.toml"
    file.write_text(text)
    return gather(PLUGINS, ["--node-name=n1", f"--config-file={file}", *words], {}).parsed


@pytest.mark.parametrize(
    ("old", "new", "live", "restart"),
    [
        ("", "", (), ()),
        ("v = 1", "v = 1", (), ()),
        ("v = 1", "", ("v",), ()),
        ("", 'log-format = "json"\nhealthz-port = 1\nhealthz-ip = "::"',
         ("healthz-ip", "healthz-port", "log-format"), ()),
        ("", 'iface = ["eth1"]', (), ("iface",)),
        ('iface = ["eth1", "eth2"]', 'iface = ["eth2", "eth1"]', (), ("iface",)),
        ('public-ip = "192.0.2.1"\nv = 0', 'v = 2\nengine = "python"', ("v",), ("engine", "public-ip")),
        ("", 'etcd-endpoints = ["http://192.0.2.1:2379"]\netcd-password = "p"\netcd-username = "u"', (),
         ("etcd-endpoints", "etcd-password", "etcd-username")),
        ("", "ip-masq = true", (), ("ip-masq",)),
        ("", 'kube-api-url = "http://192.0.2.1"\nkube-subnet-mgr = false', (), ()),  # without effect
        ("subnet-lease-renew-margin = 60", 'subnet-lease-renew-margin = "1h"', (), ()),  # said in another way
    ],
)  # fmt: skip
def test_what_differs_is_sorted_by_when_it_takes_effect(
    tmp_path: Path, old: str, new: str, live: tuple[str, ...], restart: tuple[str, ...]
) -> None:
    found = changes(parsed(tmp_path, old).values, parsed(tmp_path, new))
    assert found == Changes(live, restart)


def test_what_a_flag_says_the_file_does_not_change(tmp_path: Path) -> None:
    in_use = parsed(tmp_path, "v = 1", "--v=3").values
    assert changes(in_use, parsed(tmp_path, "v = 2", "--v=3")) == Changes()


def test_what_can_change_are_options_that_there_are(tmp_path: Path) -> None:
    assert parsed(tmp_path, "").values.keys() >= LIVE
