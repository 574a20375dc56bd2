"""The extension backend keeps the contract of backends by real commands, and runs after a restart what is needed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.contracts.backend import Advertisement, Family, Peer
from tulle.net.prefix import Prefix, parse_prefix, subnet_key
from tulle.testing.backend_contract import UNDERLAY_MTU, BackendContract, RecordingContext
from tulle_extension import backend as module
from tulle_extension.backend import ExtensionBackend
from tulle_extension.options import ExtensionOptions

NOTE = 'echo "{what} $SUBNET $PUBLIC_IP $NETWORK" >> log'
ADD = 'name="${SUBNET%/*}-${SUBNET#*/}"; echo "$SUBNET $IPV6_SUBNET" > "peers/$name"'
REMOVE = 'rm "peers/${SUBNET%/*}-${SUBNET#*/}"'


def options(folder: Path, **changes: object) -> ExtensionOptions:
    """Commands that note what they are told, in `folder`."""
    (folder / "peers").mkdir(exist_ok=True)
    here = f"cd {folder} && "
    commands = {
        "pre_startup_command": f"{here}echo pre >> log; echo 'the key'",
        "post_startup_command": here + NOTE.format(what="post"),
        "subnet_add_command": f"{here}{NOTE.format(what='add')}; {ADD}",
        "subnet_remove_command": f"{here}{NOTE.format(what='remove')}; {REMOVE}",
        "shutdown_command": here + NOTE.format(what="shutdown"),
    }
    return ExtensionOptions(**{**commands, **changes})  # type: ignore[arg-type]


def taken(folder: Path) -> list[str]:
    """What has been run since it was last taken."""
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def a_peer(number: int, **changes: object) -> Peer:
    prefix = ip_network(f"10.42.{number}.0/24")
    address = ip_address(f"192.0.2.{number}")
    whole = Peer(subnet_key((prefix,)), f"n{number}", (prefix,), (address,), "extension", data_text="its key")
    return msgspec.structs.replace(whole, **changes)


class TestExtensionBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = tmp_path_factory.mktemp("commands")

    def make_backend(self) -> ExtensionBackend:
        return ExtensionBackend(options(self.folder))

    def make_peer(self, number: int, families: Sequence[Family], advertised: Advertisement) -> Peer:
        peer = super().make_peer(number, families, advertised)
        return msgspec.structs.replace(peer, data_text=advertised.data_text)

    async def served(self, ctx: RecordingContext) -> set[str]:
        found = set()
        for path in (self.folder / "peers").iterdir():
            prefixes: dict[str, Prefix] = {word: parse_prefix(word) for word in path.read_text().split()}
            found.add(subnet_key(tuple(prefixes.values())))
        return found


async def life(folder: Path, state: Path, peers: Sequence[Peer], **changes: object) -> ExtensionBackend:
    """A backend as tulled brings it up."""
    backend, ctx = ExtensionBackend(options(folder, **changes)), RecordingContext(state)
    assert (await backend.advertise(ctx)).type == "extension"
    await backend.start(ctx)
    report = await backend.reconcile(peers)
    assert report.problems == ()
    return backend


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("commands", "state"):
        (tmp_path / name).mkdir()
    return tmp_path / "commands", tmp_path / "state"


def test_commands_are_run_in_flannels_order_with_flannels_variables(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        backend = await life(*folders, [a_peer(2)])
        assert taken(folders[0]) == [
            "pre",
            "post 10.42.1.0/24 192.0.2.1 10.42.0.0/16",
            "add 10.42.2.0/24 192.0.2.2 ",
        ]
        await backend.stop(True)
        assert taken(folders[0]) == [
            "remove 10.42.2.0/24 192.0.2.2 ",
            "shutdown 10.42.1.0/24 192.0.2.1 10.42.0.0/16",
        ]

    asyncio.run(run())


def test_what_pre_prints_is_the_lease_and_comes_on_the_standard_input(folders: tuple[Path, Path]) -> None:
    folder, state = folders

    async def run() -> None:
        cat = f"cat >> {folder}/stdin"
        backend = ExtensionBackend(options(folder, post_startup_command=cat, subnet_add_command=cat))
        ctx = RecordingContext(state)
        assert await backend.advertise(ctx) == Advertisement("extension", data_text="the key")
        await backend.start(ctx)
        await backend.reconcile([a_peer(2), a_peer(3, data_text=None)])
        assert sorted((folder / "stdin").read_text().split("\n")) == ["", "", "its key", "the key"]
        await backend.stop(False)

    asyncio.run(run())


def test_without_commands_there_is_a_lease_and_nothing_else(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        backend, ctx = ExtensionBackend(ExtensionOptions()), RecordingContext(folders[1])
        assert await backend.advertise(ctx) == Advertisement("extension")
        await backend.start(ctx)
        assert (await backend.reconcile([a_peer(2)])).problems == ()
        assert backend.mtu() == UNDERLAY_MTU
        await backend.stop(True)

    asyncio.run(run())


def test_a_restart_runs_nothing_where_nothing_has_changed(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        backend = await life(*folders, [a_peer(2), a_peer(3)])
        await backend.stop(False)
        taken(folders[0])
        again = await life(*folders, [a_peer(3), a_peer(2)])
        assert taken(folders[0]) == []
        assert again.added() == {a_peer(2).key, a_peer(3).key}
        await again.stop(False)

    asyncio.run(run())


def test_a_restart_after_a_kill_runs_at_most_what_the_last_half_second_did(
    folders: tuple[Path, Path],
) -> None:
    async def killed() -> None:
        await life(*folders, [a_peer(2)])
        await asyncio.sleep(0.8)
        await life_goes_on([a_peer(2), a_peer(3)])

    async def life_goes_on(peers: Sequence[Peer]) -> None:
        taken(folders[0])
        await life(*folders, peers)
        assert taken(folders[0]) == ["add 10.42.3.0/24 192.0.2.3 "]

    asyncio.run(killed())


def test_a_restart_removes_who_has_gone_meanwhile_and_follows_who_has_changed(
    folders: tuple[Path, Path],
) -> None:
    async def run() -> None:
        backend = await life(*folders, [a_peer(2), a_peer(3), a_peer(4)])
        await backend.stop(False)
        taken(folders[0])
        moved = a_peer(3, endpoints=(ip_address("192.0.2.33"),))
        await (await life(*folders, [a_peer(2), moved])).stop(False)
        assert sorted(taken(folders[0])) == [
            "add 10.42.3.0/24 192.0.2.33 ",
            "remove 10.42.3.0/24 192.0.2.3 ",
            "remove 10.42.4.0/24 192.0.2.4 ",
        ]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"subnet_remove_command": "true"}, ["add"]),
        ({"post_startup_command": "true"}, []),
        ({"pre_startup_command": "echo 'another key'"}, ["post", "add"]),
    ],
    ids=["remove", "post", "pre"],
)
def test_a_changed_command_is_followed_by_what_depends_on_it(
    folders: tuple[Path, Path], changes: Mapping[str, Any], expected: list[str]
) -> None:
    async def run() -> None:
        await (await life(*folders, [a_peer(2)])).stop(False)
        taken(folders[0])
        await (await life(*folders, [a_peer(2)], **changes)).stop(False)
        assert [line.split()[0] for line in taken(folders[0])] == expected

    asyncio.run(run())


def test_after_down_a_start_begins_anew(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        await (await life(*folders, [a_peer(2)])).stop(True)
        taken(folders[0])
        await (await life(*folders, [a_peer(2)])).stop(False)
        assert [line.split()[0] for line in taken(folders[0])] == ["pre", "post", "add"]

    asyncio.run(run())


def test_a_new_address_of_ours_runs_post_again(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        backend, ctx = ExtensionBackend(options(folders[0])), RecordingContext(folders[1])
        await backend.advertise(ctx)
        await backend.start(ctx)
        await backend.start(ctx)
        assert len(taken(folders[0])) == 2
        ctx.underlay = msgspec.structs.replace(ctx.underlay, public={4: ip_address("192.0.2.99")}, mtu=1400)
        await backend.start(ctx)
        assert taken(folders[0]) == ["post 10.42.1.0/24 192.0.2.99 10.42.0.0/16"]
        assert backend.mtu() == 1400
        await backend.stop(False)

    asyncio.run(run())


def test_a_pre_command_that_fails_leaves_the_node_without_a_lease_and_says_why(
    folders: tuple[Path, Path],
) -> None:
    backend = ExtensionBackend(ExtensionOptions(pre_startup_command="echo no device >&2; exit 2"))
    with pytest.raises(OSError, match="PreStartupCommand ended with status 2: no device; without what"):
        asyncio.run(backend.advertise(RecordingContext(folders[1])))


def test_a_pre_command_that_prints_without_end_is_refused(folders: tuple[Path, Path]) -> None:
    backend = ExtensionBackend(ExtensionOptions(pre_startup_command="head -c 70000 /dev/zero | tr '\\0' x"))
    with pytest.raises(OSError, match="PreStartupCommand printed more than 65536 bytes"):
        asyncio.run(backend.advertise(RecordingContext(folders[1])))


def test_a_post_command_that_fails_is_tried_again_by_the_next_start(folders: tuple[Path, Path]) -> None:
    folder, state = folders

    async def run() -> None:
        backend = ExtensionBackend(ExtensionOptions(post_startup_command=f"cat {folder}/there"))
        ctx = RecordingContext(state)
        await backend.advertise(ctx)
        with pytest.raises(OSError, match="PostStartupCommand ended with status 1: cat:"):
            await backend.start(ctx)
        (folder / "there").touch()
        await backend.start(ctx)
        assert (await backend.reconcile([])).problems == ()
        await backend.stop(False)

    asyncio.run(run())


def test_a_peer_whose_command_fails_is_a_problem_until_it_works_and_then_core_is_told(
    folders: tuple[Path, Path],
) -> None:
    folder, state = folders

    async def run() -> None:
        add = f'test "$PUBLIC_IP" != 192.0.2.3 || test -e {folder}/ready'
        backend = ExtensionBackend(ExtensionOptions(subnet_add_command=add))
        ctx = RecordingContext(state)
        await backend.advertise(ctx)
        await backend.start(ctx)
        peers = [a_peer(2), a_peer(3)]
        (problem,) = (await backend.reconcile(peers)).problems
        assert (problem.code, problem.subject) == ("command-failed", "n3")
        assert "SubnetAddCommand for 10.42.3.0/24 ended with status 1" in problem.message
        assert backend.status() == {"mtu": UNDERLAY_MTU, "added_peers": 1, "failing_peers": ["n3"]}
        (folder / "ready").touch()
        async with asyncio.timeout(30):
            while not ctx.asked_again:
                await asyncio.sleep(0.05)
        assert (await backend.reconcile(peers)).problems == ()
        assert backend.added() == {peer.key for peer in peers}
        await backend.stop(False)

    asyncio.run(run())


def test_a_command_that_hangs_holds_up_no_other_peer(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        add = 'test "$PUBLIC_IP" != 192.0.2.3 || sleep 60'
        backend = ExtensionBackend(ExtensionOptions(subnet_add_command=add, command_timeout=1))
        ctx = RecordingContext(folders[1])
        await backend.advertise(ctx)
        await backend.start(ctx)
        (problem,) = (await backend.reconcile([a_peer(2), a_peer(3), a_peer(4)])).problems
        assert "did not end within 1 s and was killed" in problem.message
        assert backend.added() == {a_peer(2).key, a_peer(4).key}
        await backend.stop(False)

    asyncio.run(run())


def test_a_state_file_that_cannot_be_written_is_a_problem_and_stops_nothing(
    folders: tuple[Path, Path],
) -> None:
    folder, state = folders

    async def run() -> None:
        (state / "extension.json.new").mkdir()  # root may write anywhere else
        backend, ctx = ExtensionBackend(options(folder)), RecordingContext(state)
        await backend.advertise(ctx)
        await backend.start(ctx)
        (problem,) = (await backend.reconcile([a_peer(2)])).problems
        assert (problem.code, problem.subject) == ("state-file", f"{state}/extension.json")
        assert backend.added() == {a_peer(2).key}
        await backend.stop(False)

    asyncio.run(run())


def test_mtu_of_the_config_is_what_pods_get(folders: tuple[Path, Path]) -> None:
    async def run() -> None:
        backend = await life(*folders, [], mtu=1400)
        assert backend.mtu() == 1400
        await backend.stop(False)

    asyncio.run(run())


def test_down_does_not_wait_for_commands_that_hang(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMOVE_ALL_S", 0.2)
    monkeypatch.setattr(module, "SHUTDOWN_S", 0.2)

    async def run() -> None:
        hang = "echo $$ >> pids; exec sleep 60"
        here = f"cd {folders[0]} && {hang}"
        backend = await life(*folders, [a_peer(2)], subnet_remove_command=here, shutdown_command=here)
        began = time.monotonic()
        await backend.stop(True)
        assert time.monotonic() - began < 20
        for pid in (folders[0] / "pids").read_text().split():
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)

    asyncio.run(run())
