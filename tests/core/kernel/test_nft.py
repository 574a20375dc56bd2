"""libnftables in this process, over a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

import pytest

from tulle.kernel.nft import PACKAGE, Nft, NftError, NftMissing

TABLE = 'table inet mine { chain c { ip saddr 10.0.0.0/8 counter accept comment "x"; }; }\n'


def nft(*words: str) -> str:
    """The program, as the witness."""
    if shutil.which("nft") is None:
        pytest.fail("these tests compare with nft: apt install nftables")
    return subprocess.run(["nft", *words], capture_output=True, text=True, check=True).stdout


def test_what_is_applied_is_what_nft_lists(netns: Any) -> None:
    async def run() -> list[Any]:
        made = Nft()
        try:
            assert await made.tables() == set()
            await made.apply(TABLE)
            assert await made.tables() == {("inet", "mine")}
            return await made.listed("table inet mine")
        finally:
            made.close()

    listed = netns.run(run())
    assert [next(iter(one)) for one in listed] == ["table", "chain", "rule"]
    assert listed[2]["rule"]["comment"] == "x"
    assert listed[2]["rule"]["handle"] > 0
    assert "ip saddr 10.0.0.0/8 counter packets 0 bytes 0 accept" in netns.call(
        nft, "list", "table", "inet", "mine"
    )


def test_a_buffer_is_one_transaction(netns: Any) -> None:
    async def run() -> None:
        made = Nft()
        try:
            with pytest.raises(NftError, match="No such file") as raised:
                await made.apply(TABLE + "delete table inet another\n")
            assert raised.value.gone
            assert await made.tables() == set()
        finally:
            made.close()

    netns.run(run())


def test_a_command_that_is_none_is_an_error_of_one_line(netns: Any) -> None:
    async def run() -> None:
        made = Nft()
        try:
            with pytest.raises(NftError, match="syntax error") as raised:
                await made.apply("make it so\n")
            assert "\n" not in str(raised.value)
            assert not raised.value.gone
        finally:
            made.close()

    netns.run(run())


def test_calls_leave_the_loop_free_and_take_turns(netns: Any) -> None:
    async def run() -> None:
        made = Nft()
        try:
            await asyncio.gather(*(made.apply(f"add table inet t{number}\n") for number in range(20)))
            assert await made.tables() == {("inet", f"t{number}") for number in range(20)}
        finally:
            made.close()

    netns.run(run())


def test_a_missing_library_names_its_package() -> None:
    async def run() -> None:
        made = Nft("libnftables.so.none")
        try:
            with pytest.raises(NftMissing, match=f"apt install {PACKAGE}"):
                await made.tables()
        finally:
            made.close()

    asyncio.run(run())


def test_closing_twice_and_unused_is_no_error() -> None:
    made = Nft()
    made.close()
    made.close()


def test_a_table_of_an_owner_is_listed_with_the_others(netns: Any) -> None:
    """Whose flag libnftables 1.0.6 cannot write as JSON."""

    async def run() -> None:
        owner = await asyncio.create_subprocess_exec("nft", "-i", stdin=asyncio.subprocess.PIPE)
        assert owner.stdin is not None
        made = Nft()
        try:
            owner.stdin.write(b"add table inet theirs { flags owner; }\n")
            async with asyncio.timeout(10):
                while ("inet", "theirs") not in await made.tables():
                    await asyncio.sleep(0.02)
            await made.apply("add table ip mine\n")
            assert await made.tables() == {("inet", "theirs"), ("ip", "mine")}
        finally:
            made.close()
            owner.stdin.close()
            await owner.wait()

    netns.run(run())
