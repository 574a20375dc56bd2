"""The node's components: those that the network config gives settings to ("Tulle": {"<name>": {...}}), and those that
run always."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tulle.contracts.backend import JsonObject, Peer, Problem
from tulle.contracts.component import Component, ComponentContext, Snapshot
from tulle.contracts.specs import ComponentSpec
from tulle.kernel.netlink import Netlink
from tulle.node.context import Context, KeptKernel
from tulle.node.keeper import Keeper
from tulle.node.network import Network
from tulle.plugins import Plugins

log = logging.getLogger("tulle.components")


class Components:
    """All of them together. One that fails is reported and does not stop the others, nor the packets."""

    def __init__(self, plugins: Plugins, options: Mapping[str, Any]) -> None:
        """`options`: the values of the plugins' own flags."""
        self._plugins = plugins
        self._options = options
        self._running: dict[str, Component] = {}
        self._failed: dict[str, str] = {}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    async def start(
        self, network: Network, context: Context, run_dir: Path, keeper: Keeper, netlink: Netlink
    ) -> None:
        """Start those that are configured. Raises PluginError where one's code cannot be loaded."""
        for spec in self._plugins.specs("tulle_components", ComponentSpec):
            if not spec.always and spec.name not in network.sections:
                continue
            component: Component = self._plugins.make(spec, network.sections.get(spec.name, {}))
            self._running[spec.name] = component
            given = ComponentContext(
                node=context.node,
                networks=context.networks,
                prefixes=context.prefixes,
                state_dir=context.state_dir,
                run_dir=run_dir,
                options=self._options,
                enable_nftables=network.config.enable_nftables,
                kernel=KeptKernel(keeper, netlink, f"component {spec.name}"),
                mended=partial(self._mended, spec.name, keeper),
                suffers=partial(self._suffers, spec.name),
            )
            try:
                await component.start(given)
            except Exception as error:
                self._fail(spec.name, "start", error)

    async def reconcile(self, peers: Sequence[Peer]) -> None:
        for name, component in self._running.items():
            try:
                report = await component.reconcile(Snapshot(peers))
            except Exception as error:
                self._fail(name, "reconcile", error)
                continue
            self._failed.pop(name, None)
            self._suffers(name, report.problems)
            for line in report.changed:
                log.info("component-changed name=%s %s", name, line)

    def ready(self) -> list[str]:
        """Why they are not; empty when all are."""
        reasons = [f"{name}: {reason}" for name, one in self._running.items() for reason in one.ready()]
        return reasons + [f"{name}: {error}" for name, error in self._failed.items()]

    def problems(self) -> list[Problem]:
        """Of their last reconciles."""
        return [problem for many in self._problems.values() for problem in many]

    def status(self) -> JsonObject:
        return {name: one.status() for name, one in self._running.items()}

    async def stop(self, *, remove: bool) -> list[str]:
        """Returns a line for each thing that was taken away."""
        lines: list[str] = []
        for name, component in self._running.items():
            try:
                lines += await component.stop(remove) or ()
            except Exception as error:
                self._fail(name, "stop", error)
        self._running.clear()
        return lines

    def _suffers(self, name: str, problems: Sequence[Problem]) -> None:
        self._problems[name] = tuple(problems)

    def _mended(self, name: str, keeper: Keeper, lines: Sequence[str]) -> None:
        for line in lines:
            log.info("component-changed name=%s %s", name, line)
        keeper.remember(lines)

    def _fail(self, name: str, what: str, error: Exception) -> None:
        if self._failed.get(name) != str(error):
            log.error("component-failed name=%s in=%s error=%s: %s", name, what, type(error).__name__, error)
        self._failed[name] = str(error)
