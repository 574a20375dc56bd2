"""The node's components: those that the network config gives settings to ("Tulle": {"<name>": {...}})."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tulle.contracts.backend import JsonObject, Peer
from tulle.contracts.component import Component, ComponentContext, Snapshot
from tulle.contracts.specs import ComponentSpec
from tulle.node.context import Context
from tulle.node.network import Network
from tulle.plugins import Plugins

log = logging.getLogger("tulle.components")


class Components:
    """All of them together. One that fails is reported and does not stop the others, nor the packets."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._running: dict[str, Component] = {}
        self._failed: dict[str, str] = {}

    async def start(self, network: Network, context: Context, run_dir: Path) -> None:
        """Start those that are configured. Raises PluginError where one's code cannot be loaded."""
        given = ComponentContext(context.node, context.networks, context.prefixes, context.state_dir, run_dir)
        for spec in self._plugins.specs("tulle_components", ComponentSpec):
            if spec.name not in network.sections:
                continue
            component: Component = self._plugins.make(spec, network.sections[spec.name])
            self._running[spec.name] = component
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
            for line in report.changed:
                log.info("component-changed name=%s %s", name, line)

    def ready(self) -> list[str]:
        """Why they are not; empty when all are."""
        reasons = [f"{name}: {reason}" for name, one in self._running.items() for reason in one.ready()]
        return reasons + [f"{name}: {error}" for name, error in self._failed.items()]

    def status(self) -> JsonObject:
        return {name: one.status() for name, one in self._running.items()}

    async def stop(self, *, remove: bool) -> None:
        for name, component in self._running.items():
            try:
                await component.stop(remove)
            except Exception as error:
                self._fail(name, "stop", error)
        self._running.clear()

    def _fail(self, name: str, what: str, error: Exception) -> None:
        if self._failed.get(name) != str(error):
            log.error("component-failed name=%s in=%s error=%s: %s", name, what, type(error).__name__, error)
        self._failed[name] = str(error)
