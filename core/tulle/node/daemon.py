"""The order of things on a node: network config, underlay, lease, backend, subnet.env, then peers as they come.

    store -> network config -> underlay -> backend.advertise -> lease -> backend.start -> subnet.env -> ready
    peers -> backend.reconcile -> forwarder and kernel;   the keeper mends what others change

At SIGTERM everything stays as it is and only tulled ends; `down` takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Advertisement, Backend, Underlay
from tulle.contracts.subnet import Claim
from tulle.kernel.monitor import Monitor
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import Wanted, cover
from tulle.lease.errors import ConfigChanged
from tulle.node import identity, status, subnet_env
from tulle.node.api import Api
from tulle.node.components import Components
from tulle.node.context import Context, KeptKernel, NoDataPlane
from tulle.node.dataplane import UserSpace
from tulle.node.down import remove_all, stop_forwarders
from tulle.node.footprint import Footprint
from tulle.node.health import HealthServer
from tulle.node.keeper import Keeper
from tulle.node.membership import Membership
from tulle.node.methods import methods
from tulle.node.metrics import Metrics
from tulle.node.network import Network, check_network
from tulle.node.notify import ServiceManager
from tulle.node.rundir import RunDir
from tulle.node.state import NodeState
from tulle.node.underlay import Follower
from tulle.node.underlay import find as find_underlay
from tulle.node.upkeep import Upkeep
from tulle.plugins import Plugins
from tulle.tasks import first_to_end

log = logging.getLogger("tulle.node")

START_RETRY_S = 2.0
SAY_S = 2.0
"""How often the service manager hears how it goes, at least."""


class Daemon:
    """One node. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, config: DaemonConfig, plugins: Plugins, membership: Membership) -> None:
        self._config = config
        self._plugins = plugins
        self._netlink = Netlink()
        self._node = NodeState(
            config=config,
            membership=membership,
            run_dir=RunDir(config.run_dir),
            keeper=Keeper(self._netlink),
            components=Components(plugins, config.options),
        )
        self._metrics = Metrics(lambda: status.snapshot(self._node))
        self._health = HealthServer(self._metrics, self._node.not_ready)
        self._service = ServiceManager()
        self._advertisement = Advertisement(type="")
        self._node_id = ""
        self._footprint: Footprint | None = None
        self._api: Api | None = None
        self._stopping = asyncio.Event()
        self._underlay: Follower | None = None
        self._again = asyncio.Event()
        self._mtu = 0
        """Of pods' packets as subnet.env has it; 0: not known yet."""
        self._mtu_news = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._removing = False
        self._said_ready = False

    async def run(self) -> None:
        """Raises AlreadyRunning, IdentityError, ConfigError, PluginError, NoUnderlay, and what the membership
        raises."""
        node = self._node
        node.run_dir.take()
        self._node_id = identity.node_id(self._config.state_dir)
        self._footprint = Footprint(self._config, node.run_dir, self._node_id)
        added = [one for _, one in self._plugins.collect("tulle_api_methods")]
        self._api = Api(node.run_dir.api_socket, methods(node, self._remove, added))
        await self._api.start()
        await self._health.listen(self._config.healthz_ip, self._config.healthz_port)
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
            given_back = stopping.done() and not self._removing
            stopping.cancel()
            if given_back:
                await node.membership.give_name_back()
            await self._end_work()
            self._health.close()
            self._api.close()
            node.run_dir.leave()
            self._netlink.close()
            await node.membership.let_go()

    def stop(self) -> None:
        """End tulled; packets go on."""
        self._stopping.set()

    @property
    def leaves_something(self) -> bool:
        """Whether what carries packets is set up here, by this tulled or an earlier one."""
        return self._node.run_dir.record() is not None

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

    async def _end_work(self) -> None:
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._work
        for plane in self._node.planes:
            await plane.stop()
        if not self._removing:
            await self._node.components.stop(remove=False)
            if self._node.backend is not None:
                await self._node.backend.stop(False)

    async def _remove(self, release: bool) -> list[str]:
        """`tulle down`: everything but lease and state directory; with `release` the lease too. Then tulled ends."""
        node = self._node
        released = []
        if release and await node.membership.release():
            released = [f"lease of {self._config.node_name}: released"]
        self._removing = True
        log.info("down asked for")
        await self._end_work()
        removed = await node.components.stop(remove=True)
        if node.backend is not None:
            await node.backend.stop(True)
        for plane in node.planes:
            plane.close()
        lines = released + removed + await remove_all(node.run_dir, self._plugins)
        asyncio.get_running_loop().call_later(0.1, self.stop)
        return lines

    # --- the order of things ----------------------------------------------------------------------------------

    async def _life(self) -> None:
        membership = self._node.membership
        await membership.begin(self._node_id)
        monitor = Monitor(self._kernel_changed, entries_of=lambda index: index in self._netlink.entry_links)
        try:
            await first_to_end(membership.run(), self._steps(membership), self._tell_service_manager())
        finally:
            monitor.close()

    def _kernel_changed(self) -> None:
        self._node.keeper.wake()
        if self._underlay is not None:
            self._underlay.wake()

    async def _steps(self, membership: Membership) -> None:
        node = self._node
        while True:
            try:
                network, backend, context = await self._join(membership)
                break
            except ConfigChanged as change:  # while we waited for a subnet: nothing of ours is there yet
                log.warning("config-taken-anew %s", change)
        node.doing = "starting the backend"
        await self._start_backend(network, backend, context)
        await node.components.start(network, context, node.run_dir.path, node.keeper, self._netlink)
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
            self._follow_peers(membership, backend, context),
            self._reconcile_again(backend),
            self._tell_mtu(membership),
            self._underlay.run(backend, context),
            node.keeper.run(),
            upkeep.run(),
        )

    async def _join(self, membership: Membership) -> tuple[Network, Backend, Context]:
        """From the network config to a subnet. Raises ConfigChanged where the config was another before we had one."""
        node = self._node
        node.doing = "waiting for the network config"
        network = node.network = check_network(await membership.network_config(), self._plugins)
        for warning in network.warnings:
            log.warning("config-warning %s", warning)
        node.doing = "looking for the underlay"
        underlay = node.underlay = await find_underlay(self._config, self._netlink, network)
        log.info("underlay link=%s mtu=%d because=%r", underlay.link, underlay.mtu, underlay.chosen_because)
        arguments = () if network.options is None else (network.options,)
        backend: Backend = self._plugins.make(network.backend, *arguments)
        node.backend = backend
        node.doing = "getting a subnet"
        context = node.context = await self._acquire(network, underlay, backend, membership)
        return network, backend, context

    async def _acquire(
        self, network: Network, underlay: Underlay, backend: Backend, membership: Membership
    ) -> Context:
        """The lease. The data plane needs its prefixes; `advertise` comes before and has no use for either."""
        before = Context(
            node=self._config.node_name,
            underlay=underlay,
            networks=network.config.networks,
            state_dir=self._config.state_dir,
            dataplane=NoDataPlane(),
            on_publish=self._publish,
            on_again=self._again.set,
            on_follow=membership.follow,
            kernel=KeptKernel(self._node.keeper, self._netlink),
            recalled=await membership.recall(list(underlay.public.values())),
        )
        self._advertisement = await backend.advertise(before)
        prefixes = await membership.acquire(self._claim())
        make = partial(
            UserSpace,
            run_dir=self._node.run_dir,
            keeper=self._node.keeper,
            plugins=self._plugins,
            engine=self._config.engine,
            local_prefixes=prefixes,
        )
        self._node.dataplane = make()
        return msgspec.structs.replace(
            before,
            prefixes=prefixes,
            dataplane=self._node.dataplane,
            on_second_dataplane=partial(self._second_plane, make),
        )

    def _second_plane(self, make: Callable[..., UserSpace], name: str) -> UserSpace:
        planes = self._node.second_planes
        if name not in planes:
            planes[name] = make(name=name)
        return planes[name]

    def _claim(self) -> Claim:
        assert self._node.underlay is not None
        return Claim(
            node=self._config.node_name,
            public=dict(self._node.underlay.public),
            advertisement=self._advertisement,
            previous=subnet_env.previous_subnets(self._config.subnet_file),
            candidates=tuple(self._node.underlay.addresses.values()),
            node_id=self._node_id,
            mtu=self._mtu,
        )

    async def _publish(self, advertisement: Advertisement) -> None:
        self._advertisement = advertisement
        await self._node.membership.update(self._claim())

    async def _start_backend(self, network: Network, backend: Backend, context: Context) -> None:
        """Tried until it works: what is in the way (a port in use) may go."""
        assert self._footprint is not None
        self._footprint.write_record()
        self._set_sysctls(network, context)
        covers = tuple(cover(one) for one in context.networks) if network.backend.owns_the_way else ()
        self._node.keeper.want("node", Wanted(routes=covers))
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

    async def _follow_peers(self, membership: Membership, backend: Backend, context: Context) -> None:
        """Carry every set of peers; with the first the node is ready and subnet.env is written."""
        node = self._node
        async for peers in membership.peers():
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
                needed = [plane.name for plane in node.planes if plane.wanted]
                for line in await stop_forwarders(node.run_dir, needed):  # of a backend that needed more
                    log.info("not-needed %s", line)
                node.doing = ""
                self._write_subnet_file(backend, context)

    async def _reconcile_again(self, backend: Backend) -> None:
        """Whenever the backend asks for it, once the first peers have been carried."""
        node = self._node
        while True:
            await self._again.wait()
            self._again.clear()
            if not node.doing:
                node.report = await backend.reconcile(node.peers)

    async def _tell_mtu(self, membership: Membership) -> None:
        """To the others, whose doctors compare. A task of its own: telling waits where the store is away."""
        while True:
            await self._mtu_news.wait()
            self._mtu_news.clear()
            await membership.update(self._claim())

    async def _underlay_moved(self, others: bool) -> None:
        """After the backend has followed."""
        node = self._node
        if others:
            await node.membership.update(self._claim())
        if not node.doing and node.backend is not None and node.context is not None:
            self._write_subnet_file(node.backend, node.context)

    def _set_sysctls(self, network: Network, context: Context) -> None:
        assert self._footprint is not None
        families = [family.family for family in network.config.families]
        self._footprint.set_sysctls(families, context.underlay.link)

    def _write_subnet_file(self, backend: Backend, context: Context) -> bool:
        """Returns whether it was not as it should be, and was written."""
        assert self._footprint is not None
        node = self._node
        if (mtu := backend.mtu()) != self._mtu:
            self._mtu = mtu
            self._mtu_news.set()
        written = self._footprint.write_subnet_file(context.networks, context.prefixes, mtu)
        node.file_problem = self._footprint.subnet_file_problem
        if node.file_problem is None and not self._said_ready:
            self._said_ready = True
            self._service.ready()
            log.info("ready peers=%d mtu=%d", len(node.peers), backend.mtu())
        return written

    def _mend_subnet_file(self, backend: Backend, context: Context) -> list[str]:
        if not self._write_subnet_file(backend, context):
            return []
        return [f"{self._config.subnet_file}: was missing or changed, written"]

    async def _tell_service_manager(self) -> None:
        """Signs of life from the loop that does the work: a loop that hangs gives none."""
        while True:
            self._service.status("; ".join(self._node.not_ready()) or f"ready, {len(self._node.peers)} peers")
            self._service.alive()
            await asyncio.sleep(min(self._service.watchdog_s or SAY_S, SAY_S))
