"""Every hook of tulle, each with its contract and an example. A plugin is a module that implements some of them.

A plugin is found by an entry point of the group "tulle" whose value is the module:

    [project.entry-points.tulle]
    mycloud = "tulle_mycloud"

and `tulle_mycloud/__init__.py` holds hooks and imports nothing heavy:

    from tulle.contracts.specs import BackendSpec
    from tulle.hookspecs import hookimpl

    @hookimpl
    def tulle_backends():
        return [BackendSpec(name="mycloud", factory="tulle_mycloud.backend:MyCloud")]

All hooks are called once at start, in no particular order, never per packet. Each returns a list of specs; the lists
of all plugins are joined. A name that two plugins give is an error of the later one. An implementation may take fewer
arguments than its hook has, and later versions of tulle only ever add arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from tulle.contracts.specs import (
    ApiMethod,
    BackendSpec,
    ComponentSpec,
    ConfigSection,
    DoctorCheck,
    EncapsulationSpec,
    EngineSpec,
    OptionSpec,
    StoreSpec,
    SubnetManagerSpec,
)

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("tulle")
hookimpl = pluggy.HookimplMarker("tulle")


@hookspec
def tulle_backends() -> Sequence[BackendSpec]:
    """Ways to reach a peer, chosen by `Backend.Type` in the network config (`contracts.backend.Backend`).

    Example: `[BackendSpec(name="udp", factory="tulle_udp.backend:UdpBackend", options=UdpOptions)]`
    """
    raise NotImplementedError


@hookspec
def tulle_encapsulations() -> Sequence[EncapsulationSpec]:
    """What datagrams look like (`contracts.encapsulation.Encapsulation`). The forwarder imports the factory before it
    drops its rights, so it must not need any later.

    Example: `[EncapsulationSpec(name="udp", factory="tulle_udp.encapsulation:PlainUdp")]`
    """
    raise NotImplementedError


@hookspec
def tulle_engines() -> Sequence[EngineSpec]:
    """What moves packets, chosen by `--engine` (`contracts.engine.Engine`).

    Example: `[EngineSpec(name="python", factory="tulle.forward.python_engine:PythonEngine")]`
    """
    raise NotImplementedError


@hookspec
def tulle_stores() -> Sequence[StoreSpec]:
    """Where the cluster's truth lies, chosen by `--store` (`contracts.store.Store`).

    Example: `[StoreSpec(name="sqlite", factory="tulle_sqlite.store:open_store", embedded=True)]`
    """
    raise NotImplementedError


@hookspec
def tulle_subnet_managers() -> Sequence[SubnetManagerSpec]:
    """Where subnets come from when not from leases in a store (`contracts.subnet.SubnetManager`): chosen by `--store`,
    as a store is, and its name must be no store's.

    Example: `[SubnetManagerSpec(name="kubernetes", factory="tulle_kubernetes.manager:open_manager")]`
    """
    raise NotImplementedError


@hookspec
def tulle_components() -> Sequence[ComponentSpec]:
    """Anything else that turns cluster state into kernel state (`contracts.component.Component`).

    Example: `[ComponentSpec(name="proxy", factory="tulle_proxy.component:Proxy")]`
    """
    raise NotImplementedError


@hookspec
def tulle_commands() -> Sequence[click.Command]:
    """Words of the `tulle` command. The function is called whenever `tulle` starts: import what the command needs
    inside its body.

    Example: `[click.Command("rotate-key", callback=rotate_key, help="Change this node's key.")]`
    """
    raise NotImplementedError


@hookspec
def tulle_options() -> Sequence[OptionSpec]:
    """Flags of tulled that no spec above carries. They appear in `tulled --help` under the plugin's name.

    Example: `[OptionSpec(name="ip-masq", kind="bool", default=False, flannel=True, help="...")]`
    """
    raise NotImplementedError


@hookspec
def tulle_config_sections() -> Sequence[ConfigSection]:
    """The plugin's own settings in the network config: `"Tulle": {"dns": {...}}`, checked by the given type before
    anything starts.

    Example: `[ConfigSection(name="dns", type=DnsSettings)]`
    """
    raise NotImplementedError


@hookspec
def tulle_api_methods() -> Sequence[ApiMethod]:
    """Methods of tulled's local API.

    Example: `[ApiMethod(verb="GET", path="dns/cache", handler=show_cache, summary="What the cache holds.")]`
    """
    raise NotImplementedError


@hookspec
def tulle_doctor_checks() -> Sequence[DoctorCheck]:
    """Checks of `tulle doctor` (`contracts.doctor`): async functions of the context that return findings.

    Example: `[DoctorCheck(name="cloud", factory="tulle_mycloud.doctor:check", summary="Routes in the cloud.")]`
    """
    raise NotImplementedError
