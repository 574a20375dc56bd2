"""The order of things on a node: network config, underlay, lease, backend, subnet.env, then peers as they come.

    store -> network config -> underlay -> backend.advertise -> lease -> backend.start -> subnet.env -> ready
    peers -> backend.reconcile -> forwarder and kernel;   the keeper mends what others change

At SIGTERM everything stays as it is and only tulled ends; `down` takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tulle import __version__
from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Advertisement, Backend, Family, JsonObject, Peer, Report, Underlay
from tulle.contracts.specs import ApiMethod
from tulle.contracts.store import Store
from tulle.contracts.subnet import Claim
from tulle.files import write_atomically
from tulle.kernel import sysctl
from tulle.kernel.monitor import Monitor
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import Wanted, cover
from tulle.kernel.underlay import NoUnderlay, Wish, choose
from tulle.lease.manager import LeaseManager
from tulle.node import identity, status, subnet_env
from tulle.node.api import Api
from tulle.node.components import Components
from tulle.node.context import Context, NoDataPlane
from tulle.node.dataplane import UserSpace
from tulle.node.down import remove_all
from tulle.node.keeper import Keeper
from tulle.node.network import Network, check_network
from tulle.node.notify import ServiceManager
from tulle.node.rundir import Record, RunDir
from tulle.plugins import Plugins
from tulle.store.clock import SystemClock
from tulle.tasks import first_to_end

log = logging.getLogger("tulle.node")

CHECK_S = 30.0
"""How often files and sysctls are looked at: nothing tells of their changes."""
START_RETRY_S = 2.0
SAY_S = 2.0
"""How often the service manager hears how it goes, at least."""


class Daemon:
    """One node. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, config: DaemonConfig, plugins: Plugins, store: Store) -> None:
        self._config = config
        self._plugins = plugins
        self._store = store
        self._run_dir = RunDir(config.run_dir)
        self._netlink = Netlink()
        self._keeper = Keeper(self._netlink)
        self._stopping = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._leases: LeaseManager | None = None
        self._record: Record | None = None
        self._network: Network | None = None
        self._underlay: Underlay | None = None
        self._context: Context | None = None
        self._dataplane: UserSpace | None = None
        self._backend: Backend | None = None
        self._advertisement = Advertisement(type="")
        self._report = Report()
        self._components = Components(plugins)
        self._peers: Sequence[Peer] = ()
        self._service = ServiceManager()
        self._doing = "starting"
        self._removing = False
        self._node_id = ""

    async def run(self) -> None:
        """Raises AlreadyRunning, IdentityError, ConfigError, PluginError, NoUnderlay, and what the leases raise."""
        self._run_dir.take()
        self._node_id = identity.node_id(self._config.state_dir)
        api = Api(self._run_dir.api_socket, self._methods())
        await api.start()
        stopping = asyncio.create_task(self._stopping.wait())
        self._work = asyncio.create_task(self._life(), name="node")
        try:
            await asyncio.wait({stopping, self._work}, return_when=asyncio.FIRST_COMPLETED)
            if self._removing:
                await stopping
            elif self._work.done():
                self._work.result()
        finally:
            self._service.stopping()
            stopping.cancel()
            await self._end_work()
            api.close()
            self._netlink.close()
            await self._store.close()

    def stop(self) -> None:
        """End tulled; packets go on."""
        self._stopping.set()

    async def _end_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._work
        if self._dataplane is not None:
            await self._dataplane.stop()
        if not self._removing:
            await self._components.stop(remove=False)

    # --- the order of things ----------------------------------------------------------------------------------

    async def _life(self) -> None:
        monitor = Monitor(self._keeper.wake)
        leases = self._leases = LeaseManager(
            self._store,
            self._config.prefix,
            node=self._config.node_name,
            node_id=self._node_id,
            boot_id=identity.boot_id(),
            renew_margin_s=int(self._config.renew_margin_s),
            clock=SystemClock(),
            rng=random.Random(),
        )
        try:
            await first_to_end(leases.run(), self._steps(leases), self._tell_service_manager())
        finally:
            monitor.close()

    async def _steps(self, leases: LeaseManager) -> None:
        self._doing = "waiting for the network config"
        network = self._network = check_network(await leases.network_config(), self._plugins)
        for warning in network.warnings:
            log.warning("config-warning %s", warning)
        await self._prepare(network)
        await self._acquire(network, leases)
        await self._start_backend()
        await first_to_end(self._follow_peers(leases), self._keeper.run(), self._look_after_files())

    async def _prepare(self, network: Network) -> None:
        """The underlay, and the backend before there is a lease."""
        self._doing = "looking for the underlay"
        families = tuple(family.family for family in network.config.families)
        underlay = self._underlay = await self._find_underlay(families)
        log.info("underlay link=%s mtu=%d because=%r", underlay.link, underlay.mtu, underlay.chosen_because)
        self._backend = self._plugins.make(
            network.backend, *(() if network.options is None else (network.options,))
        )

    async def _find_underlay(self, families: Sequence[Family]) -> Underlay:
        """An interface with the cluster's families; where there is none, IPv4 pods may travel over IPv6 and the other
        way round."""
        config = self._config
        seen = await self._netlink.surroundings(config.can_reach)
        wish = Wish(config.interfaces, config.interface_patterns, config.can_reach)
        try:
            return choose(wish, config.public, families, seen)
        except NoUnderlay as error:
            with contextlib.suppress(NoUnderlay):
                return choose(wish, config.public, (), seen)
            raise error

    async def _acquire(self, network: Network, leases: LeaseManager) -> None:
        assert self._backend is not None
        assert self._underlay is not None
        self._doing = "getting a subnet"
        # The data plane needs our prefixes, which the lease brings; `advertise` has no use for it.
        keeping = Context(
            node=self._config.node_name,
            underlay=self._underlay,
            networks=network.config.networks,
            state_dir=self._config.state_dir,
            dataplane=NoDataPlane(),
            on_publish=self._publish,
        )
        self._advertisement = await self._backend.advertise(keeping)
        prefixes = await leases.acquire(self._claim())
        log.info("subnet %s", " ".join(map(str, prefixes)))
        self._dataplane = UserSpace(
            run_dir=self._run_dir,
            keeper=self._keeper,
            plugins=self._plugins,
            engine=self._config.engine,
            local_prefixes=prefixes,
        )
        self._context = msgspec.structs.replace(keeping, prefixes=prefixes, dataplane=self._dataplane)

    def _claim(self) -> Claim:
        assert self._underlay is not None
        return Claim(
            node=self._config.node_name,
            public=dict(self._underlay.public),
            advertisement=self._advertisement,
            previous=subnet_env.previous_subnets(self._config.subnet_file),
        )

    async def _publish(self, advertisement: Advertisement) -> None:
        self._advertisement = advertisement
        if self._leases is not None:
            await self._leases.update(self._claim())

    async def _start_backend(self) -> None:
        """The record first, so that a crash in the middle leaves nothing that `tulle down` does not know."""
        assert self._network is not None
        assert self._context is not None
        assert self._backend is not None
        self._doing = "starting the backend"
        self._write_record()
        self._set_sysctls()
        self._keeper.want("node", Wanted(routes=tuple(cover(one) for one in self._context.networks)))
        said = ""
        while True:
            try:
                await self._backend.start(self._context)
                break
            except (OSError, TimeoutError) as error:
                if str(error) != said:
                    said = str(error)
                    log.error("backend-start-failed error=%s (tried again every %.0f s)", said, START_RETRY_S)
                self._doing = f"starting the backend: {said}"
                await asyncio.sleep(START_RETRY_S)
        await self._keeper.settle()
        await self._components.start(self._network, self._context, self._run_dir.path)

    async def _follow_peers(self, leases: LeaseManager) -> None:
        """Carry every set of peers; with the first the node is ready and subnet.env is written."""
        assert self._backend is not None
        async for peers in leases.peers():
            self._peers = peers
            self._report = await self._backend.reconcile(peers)
            await self._components.reconcile(peers)
            for line in self._report.changed:
                log.info("backend-changed %s", line)
            if self._doing:
                self._doing = ""
                self._write_subnet_file()
                self._service.ready()
                log.info("ready peers=%d mtu=%d", len(peers), self._backend.mtu())

    # --- what tulled keeps in files and sysctls -----------------------------------------------------------------

    def _write_record(self) -> None:
        """Keeps what an earlier run remembered of sysctls and files."""
        old = self._run_dir.record()
        self._record = Record(
            node=self._config.node_name,
            node_id=self._node_id,
            state_dir=str(self._config.state_dir),
            store=self._config.store,
            store_prefix=self._config.prefix,
            store_settings={
                name: value
                for name, value in self._config.store_settings.items()
                if value is not None and name not in self._config.secrets
            },
            subnet_file=str(self._config.subnet_file),
            subnet_file_text=old.subnet_file_text if old is not None else "",
            sysctls=old.sysctls if old is not None else {},
        )
        self._run_dir.write_record(self._record)

    def _set_sysctls(self) -> None:
        assert self._network is not None
        assert self._underlay is not None
        assert self._record is not None
        families = [family.family for family in self._network.config.families]
        applied = sysctl.apply(sysctl.forwarding(families, self._underlay.link), self._record.sysctls)
        for line in applied.changed:
            log.info("sysctl-set %s", line)
        for problem in applied.problems:
            log.warning("sysctl-problem %s", problem.message)
        if applied.remembered != self._record.sysctls:
            self._record.sysctls = dict(applied.remembered)
            self._run_dir.write_record(self._record)

    def _write_subnet_file(self) -> None:
        """Only where it differs: CNI plugins read it at any time."""
        assert self._context is not None
        assert self._backend is not None
        assert self._record is not None
        text = subnet_env.render(
            self._context.networks, self._context.prefixes, self._backend.mtu(), ip_masq=False
        )
        path = self._config.subnet_file
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_text() == text == self._record.subnet_file_text:
                return
        self._record.subnet_file_text = text
        self._run_dir.write_record(self._record)
        try:
            write_atomically(path, text.encode(), mode=0o644)
        except OSError as error:
            log.error(
                "subnet-file-failed file=%s error=%s (tried again in %.0f s)", path, error.strerror, CHECK_S
            )

    async def _look_after_files(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._set_sysctls()
            if not self._doing:
                self._write_subnet_file()

    async def _tell_service_manager(self) -> None:
        """Signs of life from the loop that does the work: a loop that hangs gives none."""
        while True:
            self._service.status("; ".join(self._not_ready()) or f"ready, {len(self._peers)} peers")
            self._service.alive()
            await asyncio.sleep(min(self._service.watchdog_s or SAY_S, SAY_S))

    # --- the local API --------------------------------------------------------------------------------------------

    def _methods(self) -> list[ApiMethod]:
        own = [
            ApiMethod(
                verb="GET",
                path="status",
                handler=self._status,
                summary="What this node does and what is wrong.",
            ),
            ApiMethod(
                verb="GET", path="store", handler=self._store_settings, summary="How to reach the store."
            ),
            ApiMethod(verb="POST", path="down", handler=self._down, summary="Take everything away and end."),
        ]
        return own + [one for _, one in self._plugins.collect("tulle_api_methods")]

    async def _store_settings(self, query: Mapping[str, str], body: Mapping[str, Any]) -> JsonObject:
        """With secrets: whoever may ask this is root and could read them anyway."""
        return {
            "store": self._config.store,
            "settings": self._config.store_settings,
            "prefix": self._config.prefix,
        }

    async def _down(self, query: Mapping[str, str], body: Mapping[str, Any]) -> JsonObject:
        released = []
        if body.get("release") and self._leases is not None:
            await self._leases.release()
            released = [f"lease of {self._config.node_name}: released"]
        self._removing = True
        log.info("down asked for")
        await self._end_work()
        await self._components.stop(remove=True)
        if self._backend is not None:
            await self._backend.stop(True)
        if self._dataplane is not None:
            self._dataplane.close()
        lines = released + await remove_all(self._run_dir)
        asyncio.get_running_loop().call_later(0.1, self.stop)
        return {"removed": lines}

    async def _status(self, query: Mapping[str, str], body: Mapping[str, Any]) -> JsonObject:
        return {
            "node": self._config.node_name,
            "version": __version__,
            "ready": not self._not_ready(),
            "not_ready_because": self._not_ready(),
            "store": status.store(self._store, self._config, self._leases),
            "networks": [str(one) for one in (self._network.config.networks if self._network else ())],
            "subnets": [str(one) for one in (self._context.prefixes if self._context else ())],
            "underlay": status.underlay(self._underlay),
            "backend": status.backend(
                self._network, self._backend if self._context and not self._doing else None
            ),
            "dataplane": self._dataplane.status() if self._dataplane else {},
            "components": self._components.status(),
            "peers": [status.peer(one) for one in self._peers],
            "problems": [
                msgspec.to_builtins(one) for one in (*self._report.problems, *self._keeper.problems)
            ],
            "mended": [msgspec.to_builtins(one) for one in self._keeper.mends],
        }

    def _not_ready(self) -> list[str]:
        if self._doing:
            return [self._doing]
        return (self._dataplane.ready() if self._dataplane is not None else []) + self._components.ready()
