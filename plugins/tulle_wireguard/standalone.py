"""`tulle-wg NAME`: a WireGuard interface in user space, set by `wg` and `wg-quick`; no store, no cluster.

It makes the TUN and its socket /var/run/wireguard/NAME.sock, then goes into the background (not with -f). It ends when
the socket's file is removed, when the device is deleted, and on SIGTERM, and leaves nothing behind; killed by force, no
more than files. Addresses, routes and whether the device is up are its caller's. LOG_LEVEL: silent, error (default),
info, verbose.

Exit status: 0 when it was told to end (or runs in the background), 1 where it cannot go on, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tulle import __version__
from tulle.kernel.monitor import Monitor
from tulle.node.dataplane import TX_QUEUE_PACKETS, choose_engine
from tulle.node.logs import TextLines
from tulle.node.rundir import AlreadyRunning, RunDir
from tulle.plugins import PluginError, load_plugins
from tulle.tasks import first_to_end
from tulle.worker.sandbox import leave_no_core
from tulle_wireguard import tunlink
from tulle_wireguard.alone import Alone
from tulle_wireguard.carrier import Carrier
from tulle_wireguard.uapi_socket import UapiServer

log = logging.getLogger("tulle.wireguard")

RUN_DIRECTORY = Path("/run/tulle-wg")
"""Beneath it a directory for each interface, with its lock and the forwarder's socket."""
MTU = 1420
"""Of a new device, until its caller sets another: 1500 less what IPv6 outside needs (constants.IPV6_OVERHEAD_BYTES)."""
NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}", re.ASCII)
"""What wg-quick(8) takes."""
LEVELS = {
    "silent": logging.CRITICAL + 1,
    "error": logging.WARNING,
    "info": logging.INFO,
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
}
READY = b"\1"


def main(argv: Sequence[str] | None = None) -> None:
    leave_no_core()  # private keys will be in here
    arguments = _parse(argv)
    level = os.environ.get("LOG_LEVEL", "")
    _set_up_log(LEVELS.get(level, LEVELS["error"]))
    if arguments.foreground:
        sys.exit(run(arguments.name, lambda: None))
    sys.exit(_in_background(arguments.name, quiet=not level))


def run(name: str, ready: Callable[[], None]) -> int:
    """Serve that interface to its end. Returns the exit status. `ready` is called when `wg` can connect."""
    try:
        asyncio.run(_serve(name, ready))
    except AlreadyRunning:
        pid = RunDir(RUN_DIRECTORY / name).holder()
        by = f" (pid {pid})" if pid else ""
        log.error(
            "already-running %s: another tulle-wg%s serves it; delete the device (ip link delete %s), or choose "
            "another name",
            *(name, by, name),
        )
    except (OSError, PluginError) as error:
        log.error("cannot-go-on %s: %s", name, getattr(error, "strerror", None) or error)
    else:
        return 0
    return 1


async def _serve(name: str, ready: Callable[[], None]) -> None:
    """Raises OSError, AlreadyRunning, PluginError."""
    told = _ending_signals()
    run_dir = RunDir(RUN_DIRECTORY / name)
    run_dir.take()
    engine, why = choose_engine(load_plugins(), "auto", "wireguard")
    log.info("engine %s: %s", engine.name, why)
    carrier = Carrier(name, run_dir.path, engine)
    device = Alone(carrier, MTU)
    server = UapiServer(name, device)
    try:
        await carrier.start()
        tunlink.set_mtu(name, MTU)
        tunlink.set_queue(name, TX_QUEUE_PACKETS)
        await device.start()
        if not carrier.up_to_date:
            raise OSError("its forwarder does not start; the lines above say why, or LOG_LEVEL=verbose")
        await server.start()
        ready()
        log.info("device-started %s port=%d", name, carrier.port)
        await first_to_end(
            told.wait(), server.removed(), carrier.ended(), device.follow(), _follow(name, carrier, device)
        )
        log.info("device-ended %s", name)
    finally:
        await server.close()
        await carrier.close()
        _clear(run_dir)


def _clear(run_dir: RunDir) -> None:
    run_dir.clear()
    with contextlib.suppress(OSError):  # another interface's is in it
        RUN_DIRECTORY.rmdir()


def _ending_signals() -> asyncio.Event:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


async def _follow(name: str, carrier: Carrier, device: Alone) -> None:
    """The device's MTU, as its owner changes it. Returns when the device was deleted."""
    changed = asyncio.Event()
    monitor = Monitor(changed.set)
    try:
        while carrier.alive():
            with contextlib.suppress(OSError):  # deleted this very moment
                await device.set_mtu(tunlink.mtu(name))
            await changed.wait()
            changed.clear()
    finally:
        monitor.close()


# --- the process --------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="tulle-wg",
        description="A WireGuard interface in user space, to be set by wg(8) and wg-quick(8).",
        epilog="For wg-quick: WG_QUICK_USERSPACE_IMPLEMENTATION=tulle-wg. "
        "LOG_LEVEL is one of silent, error, info, verbose.",
    )
    made.add_argument("-f", "--foreground", action="store_true", help="do not go into the background")
    made.add_argument("--version", action="version", version=f"tulle-wg {__version__}")
    made.add_argument("name", metavar="NAME", help="of the interface, such as wg0")
    return made


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    asked = parser()
    found = asked.parse_args(argv)
    if not NAME.fullmatch(found.name) or found.name in (".", ".."):
        asked.error(
            f"{found.name!r} is no name for an interface: give 1 to 15 of the characters a-z A-Z 0-9 _ = + . -"
        )
    return found


def _set_up_log(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))  # what libraries say for their own authors is left out
    logging.getLogger("tulle").setLevel(level)


def _in_background(name: str, *, quiet: bool) -> int:
    """Returns the exit status, in both processes: in the first one as soon as `wg` can connect or it is clear that it
    never will."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        if os.read(reading, 1) == READY:
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(reading)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)

    def ready() -> None:
        # Whoever reads what we write waits for its end.
        for stream in (1, 2) if quiet else ():
            os.dup2(null, stream)
        os.write(writing, READY)
        os.close(writing)

    return run(name, ready)


if __name__ == "__main__":
    main()
