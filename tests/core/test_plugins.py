"""Third-party plugins as real distributions: good ones work beside broken ones, which are named with the reason."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageMetadata, PathDistribution, distribution, entry_points
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.specs import BackendSpec, EngineSpec, StoreSpec
from tulle.plugins import GROUP, HOOK_KINDS, PluginError, PluginInfo, Plugins, load_plugins

HEAD = """

from tulle.contracts.specs import BackendSpec, ComponentSpec, EngineSpec, OptionSpec, StoreSpec
from tulle.hookspecs import hookimpl
"""
GOOD = """
@hookimpl
def tulle_backends():
    return [BackendSpec(name="cloud", factory="PLUGIN:Cloud", aliases=("sky",), summary="Far away.")]

class Cloud:
    def __init__(self, *options):
        self.options = options
"""
numbers = itertools.count()

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution with one plugin module onto a path of the test's own; returns the module's name."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    made: list[str] = []

    def write(code: str, *, name: str = "", version: str = "1.2") -> str:
        module = f"third_party_{next(numbers)}"
        made.append(module)
        (site / f"{module}.py").write_text(HEAD + code.replace("PLUGIN", module))
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name or module} = {module}\n")
        return module

    yield write
    for module in made:
        sys.modules.pop(module, None)


def info_of(plugins: Plugins, name: str) -> PluginInfo:
    for hook in HOOK_KINDS:
        plugins.collect(hook)
    return next(one for one in plugins.infos if one.name == name)


def shipped_work(plugins: Plugins) -> bool:
    """What ships with tulle is there whatever others do."""
    found = plugins.find("tulle_backends", BackendSpec, "udp", "Backend.Type")
    stores = {spec.name for spec in plugins.stores()}
    return found.factory == "tulle_udp.backend:UdpBackend" and stores >= {"etcd", "sqlite", "memory"}


def test_a_good_plugin_is_listed_found_and_made(install: Install) -> None:
    module = install(GOOD)
    plugins = load_plugins()
    info = info_of(plugins, module)
    assert (info.version, info.error, info.kinds) == ("1.2", "", ["backend"])
    assert info.hooks == ["tulle_backends"]
    assert info.provides == ["backend:cloud"]
    assert info.origin == f"{module} ({module})"
    spec = plugins.find("tulle_backends", BackendSpec, "SKY", "Backend.Type")
    assert spec.name == "cloud"
    assert plugins.make(spec, "an option").options == ("an option",)
    assert shipped_work(plugins)


BROKEN = {
    "syntax": ("def (:\n", "SyntaxError"),
    "import": ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all'"),
    "raises": ("raise RuntimeError('on a bad day')\n", "RuntimeError: on a bad day"),
    "exits": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "unknown hook": ("@hookimpl\ndef tulle_teapots():\n    return []\n", "unknown hook 'tulle_teapots'"),
    "unknown argument": (
        "@hookimpl\ndef tulle_backends(teapot):\n    return []\n",
        "teapot",
    ),
    "no hook": ("value = 1\n", "implements no hook of tulle"),
    "wrong type": (
        "@hookimpl\ndef tulle_backends():\n    return ['cloud']\n",
        "tulle_backends returned str, wanted BackendSpec",
    ),
    "another hook's type": (
        "@hookimpl\ndef tulle_stores():\n    return [BackendSpec(name='x', factory='y:z')]\n",
        "tulle_stores returned BackendSpec, wanted StoreSpec",
    ),
    "no list": (
        "@hookimpl\ndef tulle_backends():\n    return BackendSpec(name='x', factory='y:z')\n",
        "is not iterable",
    ),
    "hook raises": ("@hookimpl\ndef tulle_options():\n    return 1 / 0\n", "ZeroDivisionError"),
    "wrong option": (
        "@hookimpl\ndef tulle_options():\n    return ['iface']\n",
        "returned str, wanted OptionSpec",
    ),
    "wrong section": (
        "@hookimpl\ndef tulle_config_sections():\n    return [('dns', dict)]\n",
        "returned tuple, wanted ConfigSection",
    ),
    "wrong method": ("@hookimpl\ndef tulle_api_methods():\n    return [print]\n", "wanted ApiMethod"),
    "wrong check": ("@hookimpl\ndef tulle_doctor_checks():\n    return [print]\n", "wanted DoctorCheck"),
    "a name of tulle's": (
        "@hookimpl\ndef tulle_backends():\n    return [BackendSpec(name='udp', factory='y:z')]\n",
        "backend 'udp' is already provided by plugin 'udp'",
    ),
    "an alias of tulle's name": (
        "@hookimpl\ndef tulle_backends():\n    return [BackendSpec(name='x', aliases=('udp',), factory='y:z')]\n",
        "backend 'udp' is already provided by plugin 'udp'",
    ),
    "one name twice": (
        "@hookimpl\ndef tulle_components():\n    return [ComponentSpec(name='x', factory='y:z')] * 2\n",
        "component 'x' is already provided",
    ),
    "a flag of tulle's": (
        "@hookimpl\ndef tulle_options():\n    return [OptionSpec(name='iface', kind='bool')]\n",
        "flag --iface is already provided by core, in another way",
    ),
    "a flag of another store": (
        "@hookimpl\ndef tulle_stores():\n"
        "    return [StoreSpec(name='x', factory='y:z', options=(OptionSpec(name='etcd-endpoints'),))]\n",
        "flag --etcd-endpoints is already provided by",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_named_with_the_reason_and_skipped(
    install: Install, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, reason = BROKEN[name]
    module, good = install(code), install(GOOD)
    plugins = load_plugins()
    assert reason in info_of(plugins, module).error
    assert info_of(plugins, good).error == ""
    assert shipped_work(plugins)
    assert plugins.options()
    if name != "no hook":
        assert f"plugin-broken name={module} origin={module} ({module})" in caplog.text


def test_a_plugin_of_anothers_name_does_not_take_its_place(install: Install) -> None:
    module = install(GOOD, name="udp")
    plugins = load_plugins()
    assert shipped_work(plugins)
    broken = [one for one in plugins.infos if one.origin == f"{module} ({module})"]
    assert "another plugin of the name 'udp'" in broken[0].error


def test_what_is_asked_for_and_broken_is_a_clear_error(install: Install) -> None:
    module = install("import no_such_module_at_all\n")
    with pytest.raises(PluginError) as raised:
        load_plugins().find("tulle_backends", BackendSpec, "cloud", "Backend.Type")
    message = str(raised.value)
    assert message.startswith("Backend.Type: no plugin provides backend 'cloud'. There are: ")
    assert "udp" in message
    assert f"plugin {module} is broken (ModuleNotFoundError: No module named" in message


def test_what_is_asked_for_and_not_there_says_where_to_look() -> None:
    with pytest.raises(PluginError, match=r"--engine: no plugin provides engine 'steam'.*tulle plugins list"):
        load_plugins().find("tulle_engines", EngineSpec, "steam", "--engine")


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("no_such_module_at_all:Thing", "ModuleNotFoundError"),
        ("tulle.plugins:Nothing", "AttributeError"),
        ("tulle.plugins", "is not of the form 'module:attribute'"),
        ("builtins:len", "TypeError"),
    ],
)
def test_code_that_cannot_be_loaded_or_called_is_a_clear_error(factory: str, reason: str) -> None:
    with pytest.raises(PluginError, match=reason):
        Plugins().make(StoreSpec(name="x", factory=factory))


def test_a_wrong_setting_stays_a_value_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Plugins().make(StoreSpec(name="x", factory="builtins:int"), "seven")


def test_a_hook_is_called_once(install: Install) -> None:
    install("calls = []\n@hookimpl\ndef tulle_options():\n    calls.append(1)\n    return []\n")
    module = install("calls = []\n@hookimpl\ndef tulle_backends():\n    calls.append(1)\n    return []\n")
    plugins = load_plugins()
    for _ in range(3):
        plugins.collect("tulle_backends")
        plugins.specs("tulle_backends", BackendSpec)
    assert sys.modules[module].calls == [1]


def test_engines_come_best_first(install: Install) -> None:
    install(
        "@hookimpl\ndef tulle_engines():\n    return [EngineSpec(name='rocket', factory='a:b', rank=9)]\n"
    )
    found = [spec.name for spec in load_plugins().engines()]
    assert found.index("rocket") < found.index("python")


def test_the_command_line_lists_them_too(install: Install, tmp_path: Path) -> None:
    good, bad = install(GOOD), install("def (:\n")
    done = subprocess.run(
        [sys.executable, "-m", "tulle.cli.main", "plugins", "list", "-o", "json"],
        env={"PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, Any]] = {one["name"]: one for one in json.loads(done.stdout)}
    assert found[good]["provides"] == ["backend:cloud"]
    assert found[bad]["error"].startswith("SyntaxError")


def test_what_ships_with_tulle_comes_by_entry_points_as_others_do() -> None:
    assert {one.name for one in entry_points(group=GROUP) if one.dist and one.dist.name == "tulle"} >= {
        "python-engine",
        "memory",
        "sqlite",
        "etcd",
        "udp",
    }


def test_the_metadata_of_a_distribution_are_parsed_once_however_many_plugins_it_has() -> None:
    class Counting(PathDistribution):
        parsed = 0

        @property
        def metadata(self) -> PackageMetadata:
            Counting.parsed += 1
            return super().metadata

    real = distribution("tulle")
    assert isinstance(real, PathDistribution)
    counting = Counting(real._path)  # there is no public way to the folder
    entries = [one for one in counting.entry_points if one.group == GROUP]
    assert len(entries) > 3
    assert all(one.version == real.version for one in load_plugins(entries).infos)
    assert Counting.parsed == 1


def test_a_distribution_without_metadata_is_no_reason_to_fail(tmp_path: Path) -> None:
    folder = tmp_path / "nothing-1.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\nnothing = nothing_at_all\n")
    (info,) = load_plugins(PathDistribution(folder).entry_points).infos
    assert (info.name, info.version) == ("nothing", "")
    assert "nothing_at_all" in info.error


def test_every_flag_of_tulled_is_in_the_group_of_whom_it_is_from() -> None:
    by_name = {group.name: {one.name for one in group.options} for group in load_plugins().option_groups()}
    assert "node-name" in by_name["core"]
    assert by_name["sqlite"] == {"sqlite-file"}
    assert "etcd-endpoints" in by_name["etcd"]
    assert "ip-masq" in by_name["masquerade"]
    assert "kube-api-url" in by_name[""]
