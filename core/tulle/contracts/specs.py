"""What hooks return: descriptions that cost nothing to list. The heavy module is named, and imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What every spec has."""

    name: str
    """The word by which configuration asks for it: lower case, digits and "-"."""
    factory: str
    """Where it is made: "module:attribute"."""
    aliases: tuple[str, ...] = ()
    summary: str = ""
    """One line for people."""


class BackendSpec(Spec, frozen=True, kw_only=True):
    """`Backend.Type` in the network config. `factory(options) -> contracts.backend.Backend`."""

    options: type[msgspec.Struct] | None = None
    """The type of the options beside "Type"; field names (or their `rename`) are matched without case.
    Annotations (`Literal`, `msgspec.Meta(ge=1)`) check single values, and all that are wrong are told at once. A
    `__post_init__` that raises ValueError checks what they cannot: "Port: 5 is ...; give ..."."""
    requires: tuple[str, ...] = ()
    """Names of encapsulations that must be there."""
    owns_the_way: bool = True
    """An unreachable route of worse metric covers the cluster networks, so that no packet leaves in clear when a device
    or a route is lost. False: somebody else carries the packets (alloc, extension, a cloud's routes)."""
    leftovers: str = ""
    """As a component's: for what a backend leaves beside links and routes with tulle's marks, which core takes away."""


class EncapsulationSpec(Spec, frozen=True, kw_only=True):
    """`factory(paths, random_bytes) -> contracts.encapsulation.Encapsulation`."""


class EngineSpec(Spec, frozen=True, kw_only=True):
    """`factory(make_encapsulation) -> contracts.engine.Engine`."""

    encapsulations: tuple[str, ...] | None = None
    """Those it can run; None: any."""
    rank: int = 0
    """`--engine auto` takes the highest that fits."""


class OptionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A flag of tulled (and, for the options of a store or a subnet manager, of the tulle commands that
    speak to the store)."""

    name: str
    """Without dashes: "etcd-endpoints"."""
    kind: Literal["text", "bool", "int", "list", "texts", "duration"] = "text"
    """"list": comma-separated, and repeatable. "texts": repeatable, a comma is part of the text. "duration": as Go
    writes them ("60m"), or whole minutes."""
    default: Any = None
    help: str = ""
    secret: bool = False
    """Never shown in full by anything."""
    flannel: bool = False
    """flannel has it too: FLANNELD_<NAME> is read where TULLED_<NAME> is not set."""
    inactive: str = ""
    """What would carry it out and is not there yet ("masquerading"): the flag is accepted, checked by kind, and said to
    be without effect. A plugin's option of the same name takes an inactive one's place."""


class StoreChoice(Spec, frozen=True, kw_only=True):
    """What `--store` may name: a store or a subnet manager. Names are unique over both kinds."""

    options: tuple[OptionSpec, ...] = ()
    chosen_by: tuple[str, ...] = ()
    """Names of options whose presence (a bool: being true) chooses this one when --store is not given. Stores are asked
    before subnet managers."""


class StoreSpec(StoreChoice, frozen=True, kw_only=True):
    """`factory(settings: Mapping[str, Any]) -> contracts.store.Store`; the settings are the values of `options` by
    name. Raises ValueError with a message for people where they are wrong."""

    check: str = ""
    """"module:attribute" of a function that takes the same settings, raises the same ValueError, and touches neither
    the store nor the network: for `tulled --check`."""
    missing: str = ""
    """"module:attribute" of a function that takes the same settings and says, for people, that there is no store yet
    where they point ("there is no store file /x.db"), or "" where there is one, or nobody can say. For a store that
    comes into being when it is opened: a command that only reads asks first."""
    embedded: bool = False
    """The one that is taken where nothing chooses: it needs no server."""


class SubnetManagerSpec(StoreChoice, frozen=True, kw_only=True):
    """`factory(settings: Mapping[str, Any]) -> contracts.subnet.SubnetManager`; settings as a store's. It is called
    before tulled's event loop runs, and reaches nothing yet. Raises ValueError with a message for people where they are
    wrong."""


class ComponentSpec(Spec, frozen=True, kw_only=True):
    """`factory(settings) -> contracts.component.Component`."""

    always: bool = False
    """It runs on every node, also where the network config has no section for it (its settings are then an empty
    mapping): for what flags ask for, and to take away what earlier flags asked for."""
    leftovers: str = ""
    """"module:attribute" of an async function without arguments that takes away what the component left in the kernel,
    found by its marks, and returns a line for each thing: for `tulle down` where no tulled runs."""


class ConfigSection(msgspec.Struct, frozen=True, kw_only=True):
    """`"Tulle": {"<name>": {...}}` in the network config."""

    name: str
    type: type[msgspec.Struct]


class ApiMethod(msgspec.Struct, frozen=True, kw_only=True):
    """A method of the local API. `handler(query, body)` is awaited and returns what is to be answered as JSON.

    A ValueError that it raises is the asker's fault (status 400, with its text), a StoreError is the store's (503)."""

    verb: Literal["GET", "POST"]
    path: str
    """Below /v1/: "status"."""
    handler: Callable[..., Any]
    summary: str = ""
    query: type[msgspec.Struct] | None = None
    """What the query string may hold; the handler is given one of these. What does not fit is refused before the
    handler is called. None: the handler is given a mapping of text to text, unchecked. The types' docstrings, and
    `Annotated[..., msgspec.Meta(description=...)]` on their fields, are what the API's description says."""
    body: type[msgspec.Struct] | None = None
    """The same for the JSON object in the body; a missing body is an empty object."""
    answer: Any = None
    """The type of what the handler returns; None: any JSON."""
    backend: str = ""
    """For a method of one backend, its spec's name: the handler is then `handler(backend, query, body)`, with the one
    that runs. Who asks a node that runs another is told so (400)."""


class DoctorCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A check of `tulle doctor`. `factory(context) -> awaitable sequence of findings`, see `contracts.doctor`."""

    name: str
    factory: str
    summary: str = ""


def load(factory: str) -> Any:
    """Import what "module:attribute" names. Raises ImportError or AttributeError, as the import does."""
    module, _, attribute = factory.partition(":")
    if not attribute:
        raise ValueError(f"factory {factory!r} is not of the form 'module:attribute'")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


Settings = Mapping[str, Any]
