"""What the plugin says of itself."""

from __future__ import annotations

import tulle_masquerade
from tulle.contracts.specs import ComponentSpec, load
from tulle.plugins import load_plugins


def test_flannels_flags_have_flannels_defaults() -> None:
    found = {one.name: one.default for one in tulle_masquerade.tulle_options()}
    assert found == {
        "ip-masq": None,
        "ip-masq-fully-random-disable": None,
        "iptables-resync": 5,
        "iptables-forward-rules": True,
        "ip-blackhole-route": None,
    }
    assert all(one.flannel for one in tulle_masquerade.tulle_options())


def test_it_runs_always_and_what_it_names_is_there() -> None:
    (spec,) = tulle_masquerade.tulle_components()
    assert spec.always
    for place in (
        spec.factory,
        spec.leftovers,
        *(one.factory for one in tulle_masquerade.tulle_doctor_checks()),
    ):
        assert callable(load(place))


def test_it_is_registered() -> None:
    plugins = load_plugins()
    assert "masquerade" in [spec.name for spec in plugins.specs("tulle_components", ComponentSpec)]
    (info,) = [one for one in plugins.infos if one.name == "masquerade"]
    assert info.error == ""
