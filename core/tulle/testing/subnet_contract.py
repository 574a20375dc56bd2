"""What every subnet manager must do, with two or three of them in one cluster.

class TestMine(SubnetManagerContract):
    async def write_config(self, text):
        await self.cluster.put_config(text)

    @asynccontextmanager
    async def manager(self, node):
        yield MyManager({"cluster-address": self.cluster.address})
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

from tulle.contracts.backend import Address, Advertisement, Family, Peer
from tulle.contracts.subnet import Claim, SubnetManager
from tulle.net.prefix import Prefix

WAIT_S = 20.0
CLOSED_S = 2.0
"""What tulled gives to `close`."""
CANCELLED_S = 5.0
"""For `run` to end."""
NETWORK, NETWORK_V6 = ip_network("10.42.0.0/16"), ip_network("fd42::/48")
CONFIG: Mapping[str, Any] = {"Network": str(NETWORK), "SubnetLen": 24, "Backend": {"Type": "udp"}}
DUAL: Mapping[str, Any] = {**CONFIG, "EnableIPv6": True, "IPv6Network": str(NETWORK_V6)}
FOUR_SUBNETS: Mapping[str, Any] = {**CONFIG, "Network": "10.42.0.0/22"}
"""The first is not used, so three nodes can have one each."""


def claim_of(node: str, **changes: Any) -> Claim:
    """Node "n2" claims with 192.0.2.2 and 2001:db8::2."""
    number = int(node.removeprefix("n"))
    public: dict[Family, Address] = {
        4: ip_address(f"192.0.2.{number}"),
        6: ip_address(f"2001:db8::{number}"),
    }
    fields: dict[str, Any] = {
        "advertisement": Advertisement(type=""),
        "node_id": f"{number:032x}",
    } | changes
    return Claim(node=node, public=public, **fields)


class Watched:
    """The latest set of peers that one manager tells of."""

    def __init__(self, manager: SubnetManager) -> None:
        self.peers: Sequence[Peer] = ()
        self._manager = manager
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        async for peers in self._manager.peers():
            async with self._changed:
                self.peers = peers
                self._changed.notify_all()

    async def until(self, right: Callable[[Sequence[Peer]], bool]) -> Sequence[Peer]:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: right(self.peers))
            return self.peers

    def prefixes(self) -> set[tuple[Prefix, ...]]:
        return {peer.prefixes for peer in self.peers}


class SubnetManagerContract:
    """See the module. pytest makes a new instance, and so a new cluster, for each test."""

    async def write_config(self, text: str) -> None:
        """Put the network config where managers find it."""
        raise NotImplementedError(f"{type(self).__name__} must override write_config")

    def manager(self, node: str) -> AbstractAsyncContextManager[SubnetManager]:
        """A manager of the test's cluster, as the factory makes it: the tests call `run`. What it stands on is closed
        at its end. Called again for the same node it is that node after a restart."""
        raise NotImplementedError(f"{type(self).__name__} must override manager")

    @asynccontextmanager
    async def running(self, node: str) -> AsyncIterator[SubnetManager]:
        """A manager that runs; at its end it is cancelled, without giving anything back."""
        async with self.manager(node) as manager:
            task = asyncio.create_task(manager.run())
            try:
                yield manager
                assert not task.done(), f"run has ended: {task}"
            finally:
                task.cancel()
                async with asyncio.timeout(CANCELLED_S):
                    await asyncio.gather(task, return_exceptions=True)

    def run(self, test: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
        """The test's own loop; what it enters is left in reverse order."""

        async def whole() -> None:
            async with asyncio.timeout(3 * WAIT_S), AsyncExitStack() as stack:
                await test(stack)

        asyncio.run(whole())

    async def joined(self, stack: AsyncExitStack, node: str, **claim: Any) -> tuple[SubnetManager, Any]:
        manager = await stack.enter_async_context(self.running(node))
        async with asyncio.timeout(WAIT_S):
            return manager, await manager.acquire(claim_of(node, **claim))

    async def watched(self, stack: AsyncExitStack, manager: SubnetManager) -> Watched:
        found = Watched(manager)
        task = asyncio.create_task(found.run())

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)
        return found

    def test_the_config_is_waited_for_and_comes_as_it_was_written(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            manager = await stack.enter_async_context(self.running("n1"))
            asked = asyncio.create_task(manager.network_config())
            done, _ = await asyncio.wait({asked}, timeout=0.1)
            assert not done
            text = json.dumps({**CONFIG, "Strange": "kept"})
            await self.write_config(text)
            async with asyncio.timeout(WAIT_S):
                assert json.loads(await asked) == json.loads(text)

        self.run(test)

    def test_three_nodes_get_different_subnets_inside_the_network(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            nodes = await asyncio.gather(*(self.joined(stack, node) for node in ("n1", "n2", "n3")))
            subnets = [prefix for _, (prefix,) in nodes]
            assert len(set(subnets)) == 3
            for subnet in subnets:
                assert subnet.prefixlen == 24
                assert subnet.subnet_of(NETWORK)
                assert subnet.network_address != NETWORK.network_address

        self.run(test)

    def test_both_families_come_ipv4_first(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(DUAL))
            _, (four, six) = await self.joined(stack, "n1")
            assert four.subnet_of(NETWORK)
            assert six.subnet_of(NETWORK_V6)
            assert (four.prefixlen, six.prefixlen) == (24, 64)

        self.run(test)

    def test_each_sees_the_others_and_not_itself(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            joined = [await self.joined(stack, node) for node in ("n1", "n2", "n3")]
            all_prefixes = {prefixes for _, prefixes in joined}
            for number, (manager, own) in enumerate(joined, 1):
                watched = await self.watched(stack, manager)
                peers = await watched.until(lambda peers: len(peers) == 2)
                assert watched.prefixes() == all_prefixes - {own}
                assert {peer.node for peer in peers} == {"n1", "n2", "n3"} - {f"n{number}"}
                assert len({peer.key for peer in peers}) == 2
                for peer in peers:
                    assert ip_address(f"192.0.2.{peer.node[1:]}") in peer.endpoints

        self.run(test)

    def test_who_is_alone_is_told_so(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            manager, _ = await self.joined(stack, "n1")
            async with asyncio.timeout(WAIT_S):
                async for peers in manager.peers():
                    assert list(peers) == []
                    break

        self.run(test)

    def test_who_comes_later_is_told_of(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            first, _ = await self.joined(stack, "n1")
            watched = await self.watched(stack, first)
            _, subnets = await self.joined(stack, "n2")
            await watched.until(lambda peers: [one.prefixes for one in peers] == [subnets])

        self.run(test)

    def test_an_advertisement_reaches_the_others_as_it_was_made(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            made = Advertisement(type="vxlan", data={"VtepMAC": "aa:bb:cc:dd:ee:ff", "VNI": 1})
            first, _ = await self.joined(stack, "n1")
            await self.joined(stack, "n2", advertisement=made)
            watched = await self.watched(stack, first)
            (peer,) = await watched.until(lambda peers: len(peers) == 1)
            assert (peer.backend, peer.data) == (made.type, made.data)

        self.run(test)

    def test_an_update_reaches_the_others_under_the_same_subnet(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            first, _ = await self.joined(stack, "n1")
            second, subnets = await self.joined(stack, "n2")
            watched = await self.watched(stack, first)
            (before,) = await watched.until(lambda peers: len(peers) == 1)
            changed = claim_of("n2", advertisement=Advertisement(type="x", data={"PublicKey": "new"}))
            changed.public[4] = ip_address("192.0.2.99")
            await second.update(changed)
            (peer,) = await watched.until(
                lambda peers: any(
                    one.data == {"PublicKey": "new"} and ip_address("192.0.2.99") in one.endpoints
                    for one in peers
                )
            )
            assert (peer.key, peer.prefixes) == (before.key, subnets)
            assert peer.revision != before.revision

        self.run(test)

    def test_what_is_released_is_gone_for_the_others_and_free_again(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(FOUR_SUBNETS))
            first, _ = await self.joined(stack, "n1")
            second, subnets = await self.joined(stack, "n2")
            await self.joined(stack, "n3")
            watched = await self.watched(stack, first)
            await watched.until(lambda peers: len(peers) == 2)
            await second.release()
            await watched.until(lambda peers: [one.node for one in peers] == ["n3"])
            _, again = await self.joined(stack, "n4")
            assert again == subnets

        self.run(test)

    def test_who_closes_keeps_its_subnet_and_can_come_back_at_once(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            other, _ = await self.joined(stack, "n2")
            watched = await self.watched(stack, other)
            async with self.running("n1") as first:
                before = await first.acquire(claim_of("n1"))
                await watched.until(lambda peers: [one.prefixes for one in peers] == [before])
                async with asyncio.timeout(CLOSED_S):
                    await first.close()
            _, third = await self.joined(stack, "n3")
            assert third != before
            await watched.until(lambda peers: {one.prefixes for one in peers} == {before, third})
            _, after = await self.joined(stack, "n1")
            assert after == before

        self.run(test)

    def test_a_name_that_was_given_back_is_free_for_another_machine(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            async with self.running("n1") as first:
                await first.acquire(claim_of("n1"))
                await first.release()
            _, found = await self.joined(stack, "n1", node_id="another machine")
            assert found

        self.run(test)

    def test_where_it_is_is_known_before_it_runs(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            manager = await stack.enter_async_context(self.manager("n1"))
            assert isinstance(manager, SubnetManager)
            assert manager.location

        self.run(test)

    def test_what_it_says_of_itself_is_json_at_any_time(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            idle = await stack.enter_async_context(self.manager("n2"))
            joined, _ = await self.joined(stack, "n1")
            for manager in (idle, joined):
                status = manager.status()
                assert json.loads(json.dumps(status)) == status

        self.run(test)

    def test_what_it_stands_on_answers(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            manager, _ = await self.joined(stack, "n1")
            async with asyncio.timeout(WAIT_S):
                health = await manager.health()
            assert health.endpoint
            assert 0 <= health.latency_s < WAIT_S

        self.run(test)

    def test_a_node_that_comes_back_has_its_subnet_again(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            async with AsyncExitStack() as short:
                _, before = await self.joined(short, "n1")
            await self.joined(stack, "n2")
            _, after = await self.joined(stack, "n1")
            assert after == before

        self.run(test)

    def test_the_subnet_of_the_last_run_is_preferred_where_it_is_free(self) -> None:
        async def test(stack: AsyncExitStack) -> None:
            await self.write_config(json.dumps(CONFIG))
            wish = (ip_network("10.42.77.0/24"),)
            _, first = await self.joined(stack, "n1", previous=wish)
            assert first == wish
            _, second = await self.joined(stack, "n2", previous=wish)
            assert second != wish
            _, third = await self.joined(stack, "n3", previous=(ip_network("192.168.1.0/24"),))
            assert third[0].subnet_of(NETWORK)

        self.run(test)
