"""The store: it answers, it takes a write, and what every node needs is in it."""

from __future__ import annotations

import secrets
import time

from tulle.config.errors import ConfigError
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.contracts.store import Delete, Put, Store, StoreError, absent
from tulle.doctor.daemon import start_command
from tulle.node.network import check_network
from tulle.plugins import load_plugins

PROBE_TTL_S = 10
"""Of the probe's key, should this process die in the middle."""
SLOW_S = 1.0


async def check(ctx: DoctorContext) -> list[Finding]:
    if ctx.kept_elsewhere:
        return [judge_manager(ctx)]
    if ctx.store is None or ctx.store_error:
        return [unreachable(ctx)]
    began = time.monotonic()
    try:
        health = await ctx.store.health()
    except StoreError as error:
        return [unreachable(ctx, str(error))]
    found = [judge_latency(ctx.store_at, health.latency_s, health.version)]
    try:
        await write_probe(ctx.store, f"{ctx.prefix}/doctor/{ctx.node}-{secrets.token_hex(4)}")
        found.append(Finding(severity="ok", subject=ctx.store_at, what="takes writes"))
    except StoreError as error:
        found.append(unwritable(ctx, error, time.monotonic() - began))
    return found + judge_config(ctx)


def judge_manager(ctx: DoctorContext) -> Finding:
    """What tulled says of a plugin's subnet manager: nobody else can ask it. Pure."""
    subject = ctx.store_at or "subnet manager"
    if ctx.status is None:
        what = "is a subnet manager, which the tulled here would ask; none answers"
        return Finding(severity="skipped", subject=subject, what=what)
    store = ctx.status["store"]
    if store["state"] != "away":
        return Finding(severity="ok", subject=subject, what=f"{store['state']}, as tulled says")
    return Finding(
        severity="error",
        subject=subject,
        what=f"does not answer tulled: {store['last_error']}",
        why="packets go on, but this node hears of no change, and may lose its subnet in the end",
        mend="tulle status  # again, after a look at what the subnet manager stands on",
    )


async def write_probe(store: Store, key: str) -> None:
    """Put and delete a key of our own. Leaves nothing, also where it fails half way (by its TTL). Raises
    StoreError."""
    lease = await store.grant(PROBE_TTL_S)
    try:
        await store.transact([absent(key)], [Put(key, b"tulle doctor", lease)])
        await store.transact([], [Delete(key)])
    finally:
        await store.revoke(lease)


def unreachable(ctx: DoctorContext, error: str = "") -> Finding:
    return Finding(
        severity="error",
        subject=ctx.store_at or "store",
        what=f"does not answer: {error or ctx.store_error}",
        why="packets go on, but no node can join, and leases run out (after a day at the latest)",
        mend="tulle config show  # tries again; start the store, or give its right place by the flags of tulled",
    )


def unwritable(ctx: DoctorContext, error: StoreError, after_s: float) -> Finding:
    return Finding(
        severity="error",
        subject=ctx.store_at,
        what=f"answers, but takes no write (after {after_s:.1f} s): {error}",
        why="leases are not renewed: this node's subnet is given to another one in the end",
        mend="tulle doctor --check store  # again, after a look at its rights, quota, alarms and disk",
    )


def judge_latency(store_at: str, latency_s: float, version: str) -> Finding:
    """Pure."""
    answer = f"answers in {latency_s * 1000:.1f} ms (version {version})"
    if latency_s < SLOW_S:
        return Finding(severity="ok", subject=store_at, what=answer)
    return Finding(
        severity="warning",
        subject=store_at,
        what=answer,
        why="changes reach this node late, and a little more makes it time out",
        mend="tulle doctor --check store  # again; then look at the load, disk and network of the store",
    )


def judge_config(ctx: DoctorContext) -> list[Finding]:
    """Pure but for the plugins, which say what a backend may be told."""
    key = f"{ctx.prefix}/config"
    found = ctx.records.get(key)
    if found is None:
        return [
            Finding(
                severity="error",
                subject=key,
                what="there is no network config",
                why="no node knows which network the cluster has: tulled waits for it",
                mend="tulle init  # --help shows what can be chosen",
            )
        ]
    try:
        checked = check_network(found.value, load_plugins())
    except ConfigError as error:
        return [
            Finding(
                severity="error",
                subject=key,
                what=f"is wrong: {'; '.join(str(one) for one in error.problems)}",
                why="tulled refuses to start with it",
                mend="tulle config show > net.json  # mend it, then: tulle config set net.json",
            )
        ]
    told = [
        Finding(severity="warning", subject=key, what=one, why="it has no effect", mend="tulle config check")
        for one in checked.warnings
    ]
    running = ctx.status is not None and bool(ctx.networks)
    if running and set(ctx.networks) != set(checked.config.networks):
        told.append(
            Finding(
                severity="warning",
                subject=key,
                what=f"says {_names(checked.config.networks)}, the tulled here runs with {_names(ctx.networks)}",
                why="nodes that start now get subnets of another network",
                mend=start_command("restart"),
            )
        )
    return told or [Finding(severity="ok", subject=key, what=f"network {_names(checked.config.networks)}")]


def _names(networks: tuple[object, ...]) -> str:
    return ", ".join(map(str, networks))
