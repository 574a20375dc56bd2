"""Two data planes of one tulled, with real devices and forwarders. Run by test_dataplane in a network namespace of its
own: the run directory is the only argument, what was seen goes to standard output as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tulle.contracts.backend import DataPeer, Device, Endpoint, Listen
from tulle.contracts.encapsulation import EncapsulationRef
from tulle.kernel.netlink import Netlink
from tulle.node.dataplane import UserSpace
from tulle.node.down import stop_forwarders
from tulle.node.keeper import Keeper
from tulle.node.rundir import RunDir
from tulle.plugins import load_plugins

WAIT_S = 20.0
PREFIXES = (ip_network("10.42.1.0/24"), ip_network("fd42:1::/64"))
PLANES = {
    "": (
        Device("one", 1400, (ip_network("10.42.1.0/32"),), (ip_network("10.42.0.0/16"),)),
        Listen(4, 8285, True),
    ),
    "v6": (
        Device("two", 1400, (ip_network("fd42:1::/128"),), (ip_network("fd42::/48"),)),
        Listen(6, 8286, True, True),
    ),
}
PEER = DataPeer("peer", ("10.42.2.0/24", "fd42:2::/64"), (Endpoint("192.0.2.1", 8285),))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


class Tulled:
    """As much of it as data planes need."""

    def __init__(self, run_dir: RunDir, netlink: Netlink) -> None:
        self.keeper = Keeper(netlink)
        self.planes = {
            name: UserSpace(
                run_dir=run_dir,
                keeper=self.keeper,
                plugins=load_plugins(),
                engine="python",
                local_prefixes=PREFIXES,
                name=name,
            )
            for name in PLANES
        }

    async def start(self) -> dict[str, int]:
        """Returns the process ids of the forwarders."""
        for name, plane in self.planes.items():
            device, listen = PLANES[name]
            await plane.configure(device, [listen], EncapsulationRef("udp"))
            await plane.set_peers([PEER])
        await until(lambda: not any(plane.ready() for plane in self.planes.values()))
        return self.pids()

    def pids(self) -> dict[str, int]:
        return {name: plane.status()["forwarder_pid"] for name, plane in self.planes.items()}

    async def stop(self) -> None:
        for plane in self.planes.values():
            await plane.stop()
            plane.close()


async def links(netlink: Netlink) -> list[str]:
    return [name for name in ("one", "two") if await netlink.link(name) is not None]


async def main() -> None:
    run_dir = RunDir(Path(sys.argv[1]))
    seen: dict[str, Any] = {}
    async with Netlink() as netlink:
        first = Tulled(run_dir, netlink)
        seen["first"] = await first.start()
        seen["files"] = sorted(one.name for one in run_dir.path.iterdir())
        seen["links"] = await links(netlink)
        await first.stop()
        second = Tulled(run_dir, netlink)
        seen["adopted"] = await second.start()
        before = second.pids()
        os.kill(before["v6"], signal.SIGKILL)
        await until(lambda: second.pids()["v6"] not in (0, before["v6"]))
        seen["killed"] = second.pids()
        seen["replaced"] = (await second.planes["v6"].replace())[:2]
        seen["after"] = second.pids()
        await until(lambda: len(run_dir.forwarders()) == 2)  # the old one says good-bye
        seen["by-pid"] = {str(pid): name for pid, name in run_dir.forwarders().items()}
        await second.stop()
        seen["unneeded"] = await stop_forwarders(run_dir, needed=[""])
        await until(lambda: len(run_dir.forwarders()) == 1)
        seen["left"] = [list(run_dir.forwarders().values()), await links(netlink)]
        await stop_forwarders(run_dir)
        await until(lambda: not run_dir.forwarders())
        seen["at-the-end"] = await links(netlink)
        seen["cleared"] = [Path(one.split(":")[0]).name for one in run_dir.clear()]
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main())
