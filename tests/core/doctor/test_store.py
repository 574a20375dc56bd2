"""The store: answers, takes writes, holds a usable config."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.store import Denied, Put, StoreError, TxnResult
from tulle.doctor.store import check, judge_config, judge_latency, write_probe
from tulle.doctor.survey import read_records
from tulle_memory.store import MemoryStore

MakeContext = Callable[..., DoctorContext]
KEY = "/coreos.com/network/config"
GOOD = json.dumps({"Network": "10.42.0.0/16", "Backend": {"Type": "udp"}})


def config_findings(make_context: MakeContext, text: str | None, **different: Any) -> list[Finding]:
    async def run() -> list[Finding]:
        store = MemoryStore()
        if text is not None:
            await store.transact([], [Put(KEY, text.encode())])
        return judge_config(
            make_context(records=await read_records(store, "/coreos.com/network"), **different)
        )

    return asyncio.run(run())


def test_a_store_that_works_is_ok_and_keeps_nothing_of_the_probe(make_context: MakeContext) -> None:
    async def run() -> tuple[list[Finding], list[str]]:
        store = MemoryStore()
        await store.transact([], [Put(KEY, GOOD.encode())])
        records = await read_records(store, "/coreos.com/network")
        found = await check(make_context(store=store, records=records))
        return found, [kv.key for kv in (await store.list("/")).items]

    found, left = asyncio.run(run())
    assert [one.severity for one in found] == ["ok", "ok", "ok"]
    assert left == [KEY]


def test_a_store_that_is_away_is_one_error(make_context: MakeContext) -> None:
    async def run() -> list[Finding]:
        store = MemoryStore()
        store.available = False
        return await check(make_context(store=store))

    (found,) = asyncio.run(run())
    assert (found.severity, found.subject) == ("error", "memory (of the test)")
    (never,) = asyncio.run(check(make_context(store=None, store_error="no such file")))
    assert "no such file" in never.what


@pytest.mark.parametrize(
    ("state", "severity"),
    [("connected", "ok"), ("not asked yet", "ok"), ("away", "error"), (None, "skipped")],
)
def test_of_a_subnet_manager_only_tulled_can_say_how_it_is(
    make_context: MakeContext, state: str | None, severity: str
) -> None:
    status = None if state is None else {"store": {"state": state, "last_error": "no way there"}}
    context = make_context(store=None, store_error="elsewhere", kept_elsewhere=True, status=status)
    (found,) = asyncio.run(check(context))
    assert found.severity == severity
    assert ("no way there" in found.what) == (state == "away")


class ReadOnly(MemoryStore):
    """As etcd answers a user who may only read."""

    async def transact(self, *_: Any, **__: Any) -> TxnResult:
        raise Denied("permission denied")


def test_a_store_that_takes_no_write_is_an_error_and_no_lease_stays(make_context: MakeContext) -> None:
    async def run() -> tuple[list[Finding], dict[Any, float]]:
        store = ReadOnly()
        with pytest.raises(StoreError):
            await write_probe(store, "/k")
        found = await check(make_context(store=store))
        return found, dict(await store.remaining(set(range(1, 9))))  # type: ignore[arg-type]

    found, leases = asyncio.run(run())
    assert "takes no write" in found[1].what
    assert found[1].severity == "error"
    assert leases == {}


@pytest.mark.parametrize(("latency_s", "severity"), [(0.001, "ok"), (0.999, "ok"), (1.0, "warning")])
def test_a_slow_store_is_a_warning(latency_s: float, severity: str) -> None:
    assert judge_latency("etcd", latency_s, "3.5").severity == severity


def test_no_config_and_a_wrong_one_are_errors_with_their_commands(make_context: MakeContext) -> None:
    (missing,) = config_findings(make_context, None)
    assert (missing.severity, missing.mend.split("  #")[0]) == ("error", "tulle init")
    (wrong,) = config_findings(make_context, '{"Network": "10.42.0.0/33"}')
    assert wrong.severity == "error"
    assert "Network" in wrong.what
    assert [one.severity for one in config_findings(make_context, "not json")] == ["error"]


def test_what_the_config_says_for_nothing_is_a_warning(make_context: MakeContext) -> None:
    text = '{"Network": "10.42.0.0/16", "Netwerk": 1, "Backend": {"Type": "udp"}}'
    (found,) = config_findings(make_context, text)
    assert found.severity == "warning"
    assert "Netwerk" in found.what


def test_a_config_that_the_running_tulled_does_not_have_is_a_warning(make_context: MakeContext) -> None:
    assert [one.severity for one in config_findings(make_context, GOOD)] == ["ok"]
    (found,) = config_findings(make_context, GOOD, networks=(ip_network("10.9.0.0/16"),))
    assert found.severity == "warning"
    assert "10.9.0.0/16" in found.what
