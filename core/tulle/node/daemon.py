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
import time
from collections.abc import Iterator
from functools import partial

import msgspec

from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Advertisement, Backend, Underlay
from tulle.contracts.store import Store, Unavailable
from tulle.contracts.subnet import Claim
from tulle.kernel.monitor import Monitor
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import Wanted, cover
from tulle.lease.manager import LeaseManager
from tulle.node import identity, status, subnet_env
from tulle.node.api import Api
from tulle.node.components import Components
from tulle.node.context import Context, NoDataPlane
from tulle.node.dataplane import UserSpace
from tulle.node.down import remove_all
from tulle.node.footprint import Footprint
from tulle.node.health import HealthServer
from tulle.node.keeper import Keeper
from tulle.node.methods import methods
from tulle.node.metrics import Metrics
from tulle.node.network import Network, check_network
from tulle.node.notify import ServiceManager
from tulle.node.rundir import RunDir
from tulle.node.state import NodeState
from tulle.node.storewatch import StoreWatch, cut_off
from tulle.node.underlay import Follower
from tulle.node.underlay import find as find_underlay
from tulle.node.upkeep import Upkeep
from tulle.plugins import Plugins
from tulle.store.clock import SystemClock
from tulle.tasks import first_to_end

log = logging.getLogger("tulle.node")

START_RETRY_S = 2.0
GIVE_BACK_S = 2.0
"""For the store to take the name back at our end."""
SAY_S = 2.0
"""How often the service manager hears how it goes, at least."""


class Daemon:
    """One node. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, config: DaemonConfig, plugins: Plugins, store: Store) -> None:
        self._config = config
        self._plugins = plugins
        self._netlink = Netlink()
        self._node = NodeState(
            config=config,
            store=store,
            store_watch=StoreWatch(store, doubt=self._mirrors_cut_off),
            run_dir=RunDir(config.run_dir),
            keeper=Keeper(self._netlink),
            components=Components(plugins),
        )
        self._metrics = Metrics(lambda: status.snapshot(self._node))
        self._health = HealthServer(self._metrics, self._node.not_ready)
        self._service = ServiceManager()
        self._advertisement = Advertisement(type="")
        self._footprint: Footprint | None = None
        self._api: Api | None = None
        self._stopping = asyncio.Event()
        self._underlay: Follower | None = None
        self._work: asyncio.Task[None] | None = None
        self._removing = False
        self._said_ready = False

    async def run(self) -> None:
        """Raises AlreadyRunning, IdentityError, ConfigError, PluginError, NoUnderlay, and what the leases raise."""
        node = self._node
        node.run_dir.take()
        node_id = identity.node_id(self._config.state_dir)
        self._footprint = Footprint(self._config, node.run_dir, node_id)
        added = [one for _, one in self._plugins.collect("tulle_api_methods")]
        self._api = Api(node.run_dir.api_socket, methods(node, self._remove, added))
        await self._api.start()
        await self._health.listen(self._config.healthz_ip, self._config.healthz_port)
        stopping = asyncio.create_task(self._stopping.wait())
        self._work = asyncio.create_task(self._life(node_id), name="node")
        try:
            await asyncio.wait({stopping, self._work}, return_when=asyncio.FIRST_COMPLETED)
            if self._removing:
                await stopping
            elif self._work.done():
                self._work.result()
        finally:
            self._service.stopping()
            given_back = stopping.done() and not self._removing
            stopping.cancel()
            if given_back:
                await self._give_name_back()
            await self._end_work()
            self._health.close()
            self._api.close()
            self._netlink.close()
            await node.store.close()

    def stop(self) -> None:
        """End tulled; packets go on."""
        self._stopping.set()

    async def reload(self, config: DaemonConfig) -> None:
        """Take over what can change while we run; the log is the caller's. Raises OSError where the new address for
        /healthz cannot be listened on; the old one is then kept."""
        await self._health.listen(config.healthz_ip, config.healthz_port)

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Tells the service manager. Not before it has heard that we are ready: READY=1 at the end would be a lie."""
        if self._said_ready:
            self._service.reloading()
        try:
            yield
        finally:
            if self._said_ready:
                self._service.ready()

    async def _give_name_back(self) -> None:
        """So that nobody waits for it. Where the store does not answer in time it runs out by itself."""
        if self._node.leases is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GIVE_BACK_S):
                    await self._node.leases.close()

    async def _end_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._work
        if self._node.dataplane is not None:
            await self._node.dataplane.stop()
        if not self._removing:
            await self._node.components.stop(remove=False)

    async def _remove(self, release: bool) -> list[str]:
        """`tulle down`: everything but lease and state directory; with `release` the lease too. Then tulled ends."""
        node = self._node
        released = []
        if release and node.leases is not None:
            await node.leases.release()
            released = [f"lease of {self._config.node_name}: released"]
        self._removing = True
        log.info("down asked for")
        await self._end_work()
        await node.components.stop(remove=True)
        if node.backend is not None:
            await node.backend.stop(True)
        if node.dataplane is not None:
            node.dataplane.close()
        lines = released + await remove_all(node.run_dir)
        asyncio.get_running_loop().call_later(0.1, self.stop)
        return lines

    # --- the order of things ----------------------------------------------------------------------------------

    async def _life(self, node_id: str) -> None:
        if self._node.store.single_machine:  # what it refuses now, nobody mends from elsewhere while we wait
            with contextlib.suppress(Unavailable):
                await self._node.store.health()
        monitor = Monitor(self._kernel_changed)
        leases = self._node.leases = LeaseManager(
            self._node.store,
            self._config.prefix,
            node=self._config.node_name,
            node_id=node_id,
            boot_id=identity.boot_id(),
            renew_margin_s=int(self._config.renew_margin_s),
            clock=SystemClock(),
            rng=random.Random(),
        )
        try:
            await first_to_end(
                leases.run(), self._steps(leases), self._node.store_watch.run(), self._tell_service_manager()
            )
        finally:
            monitor.close()

    def _mirrors_cut_off(self) -> str:
        leases = self._node.leases
        return "" if leases is None else cut_off(leases.status()["mirrors"])

    def _kernel_changed(self) -> None:
        self._node.keeper.wake()
        if self._underlay is not None:
            self._underlay.wake()

    async def _steps(self, leases: LeaseManager) -> None:
        node = self._node
        node.doing = "waiting for the network config"
        network = node.network = check_network(await leases.network_config(), self._plugins)
        for warning in network.warnings:
            log.warning("config-warning %s", warning)
        node.doing = "looking for the underlay"
        underlay = node.underlay = await find_underlay(self._config, self._netlink, network)
        log.info("underlay link=%s mtu=%d because=%r", underlay.link, underlay.mtu, underlay.chosen_because)
        arguments = () if network.options is None else (network.options,)
        backend: Backend = self._plugins.make(network.backend, *arguments)
        node.backend = backend
        node.doing = "getting a subnet"
        context = node.context = await self._acquire(network, underlay, backend, leases)
        node.doing = "starting the backend"
        await self._start_backend(network, backend, context)
        await node.components.start(network, context, node.run_dir.path)
        self._underlay = Follower(
            node, partial(find_underlay, self._config, self._netlink, network), self._underlay_moved
        )
        assert self._footprint is not None
        assert self._api is not None
        upkeep = Upkeep(
            node,
            self._footprint,
            self._api,
            write_subnet_file=partial(self._mend_subnet_file, backend, context),
            set_sysctls=partial(self._set_sysctls, network, context),
        )
        await first_to_end(
            self._follow_peers(leases, backend, context),
            self._underlay.run(backend, context),
            node.keeper.run(),
            upkeep.run(),
        )

    async def _acquire(
        self, network: Network, underlay: Underlay, backend: Backend, leases: LeaseManager
    ) -> Context:
        """The lease. The data plane needs its prefixes; `advertise` comes before and has no use for either."""
        before = Context(
            node=self._config.node_name,
            underlay=underlay,
            networks=network.config.networks,
            state_dir=self._config.state_dir,
            dataplane=NoDataPlane(),
            on_publish=self._publish,
        )
        self._advertisement = await backend.advertise(before)
        prefixes = await leases.acquire(self._claim())
        self._node.dataplane = UserSpace(
            run_dir=self._node.run_dir,
            keeper=self._node.keeper,
            plugins=self._plugins,
            engine=self._config.engine,
            local_prefixes=prefixes,
        )
        return msgspec.structs.replace(before, prefixes=prefixes, dataplane=self._node.dataplane)

    def _claim(self) -> Claim:
        assert self._node.underlay is not None
        return Claim(
            node=self._config.node_name,
            public=dict(self._node.underlay.public),
            advertisement=self._advertisement,
            previous=subnet_env.previous_subnets(self._config.subnet_file),
        )

    async def _publish(self, advertisement: Advertisement) -> None:
        self._advertisement = advertisement
        if self._node.leases is not None:
            await self._node.leases.update(self._claim())

    async def _start_backend(self, network: Network, backend: Backend, context: Context) -> None:
        """Tried until it works: what is in the way (a port in use) may go."""
        assert self._footprint is not None
        self._footprint.write_record()
        self._set_sysctls(network, context)
        self._node.keeper.want("node", Wanted(routes=tuple(cover(one) for one in context.networks)))
        said = ""
        while True:
            try:
                await backend.start(context)
                break
            except (OSError, TimeoutError) as error:
                if str(error) != said:
                    said = str(error)
                    log.error("backend-start-failed error=%s (tried again every %.0f s)", said, START_RETRY_S)
                self._node.doing = f"starting the backend: {said}"
                await asyncio.sleep(START_RETRY_S)
        await self._node.keeper.settle()

    # --- what goes on ---------------------------------------------------------------------------------------------

    async def _follow_peers(self, leases: LeaseManager, backend: Backend, context: Context) -> None:
        """Carry every set of peers; with the first the node is ready and subnet.env is written."""
        node = self._node
        async for peers in leases.peers():
            begun = time.perf_counter()
            node.peers = peers
            node.report = await backend.reconcile(peers)
            await node.components.reconcile(peers)
            took_s = time.perf_counter() - begun
            self._metrics.reconciled(took_s)
            log.debug(
                "reconciled peers=%d changed=%d seconds=%.3f", len(peers), len(node.report.changed), took_s
            )
            for line in node.report.changed:
                log.info("backend-changed %s", line)
            if node.doing:
                node.doing = ""
                self._write_subnet_file(backend, context)

    async def _underlay_moved(self, others: bool) -> None:
        """After the backend has followed."""
        node = self._node
        if others and node.leases is not None:
            await node.leases.update(self._claim())
        if not node.doing and node.backend is not None and node.context is not None:
            self._write_subnet_file(node.backend, node.context)

    def _set_sysctls(self, network: Network, context: Context) -> None:
        assert self._footprint is not None
        families = [family.family for family in network.config.families]
        self._footprint.set_sysctls(families, context.underlay.link)

    def _write_subnet_file(self, backend: Backend, context: Context) -> None:
        assert self._footprint is not None
        node = self._node
        node.file_problem = self._footprint.write_subnet_file(
            context.networks, context.prefixes, backend.mtu()
        )
        if node.file_problem is None and not self._said_ready:
            self._said_ready = True
            self._service.ready()
            log.info("ready peers=%d mtu=%d", len(node.peers), backend.mtu())

    def _mend_subnet_file(self, backend: Backend, context: Context) -> list[str]:
        assert self._footprint is not None
        writes = self._footprint.subnet_file_writes
        self._write_subnet_file(backend, context)
        if self._footprint.subnet_file_writes == writes:
            return []
        return [f"{self._config.subnet_file}: was missing or changed, written"]

    async def _tell_service_manager(self) -> None:
        """Signs of life from the loop that does the work: a loop that hangs gives none."""
        while True:
            self._service.status("; ".join(self._node.not_ready()) or f"ready, {len(self._node.peers)} peers")
            self._service.alive()
            await asyncio.sleep(min(self._service.watchdog_s or SAY_S, SAY_S))
