"""`tulled`: the program. Reads flags and environment, opens the store, runs the daemon, answers signals.

Exit status: 0 after SIGTERM or `tulle down`, 1 when the node cannot go on, 2 for a configuration that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from tulle import __version__
from tulle.config.daemon import DaemonConfig, daemon_config, daemon_options
from tulle.config.errors import ConfigError
from tulle.config.flags import help_text, parse_flags
from tulle.contracts.specs import StoreSpec
from tulle.contracts.store import Denied, Store
from tulle.node import logs
from tulle.plugins import PluginError, Plugins, load_plugins

log = logging.getLogger("tulle.node")

SUMMARY = "Joins this node's pods to the cluster's network."


def main(argv: Sequence[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """The exit status."""
    logs.set_up(0)
    plugins = load_plugins()
    options = daemon_options(plugins.stores(), [option for _, option in plugins.options()])
    try:
        parsed = parse_flags(options, argv, os.environ)
        if parsed.asked == "help":
            print(help_text(options, "tulled", SUMMARY), end="")
            return 0
        if parsed.asked == "version":
            print(__version__)
            return 0
        engines = [spec.name for spec in plugins.engines()]
        config = daemon_config(parsed, plugins.stores(), hostname=socket.gethostname(), engines=engines)
        logs.set_up(config.verbosity)
        store = open_store(config, plugins)
    except (ConfigError, PluginError) as error:
        print(f"tulled: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_run(config, plugins, store))


def open_store(config: DaemonConfig, plugins: Plugins) -> Store:
    """Raises ConfigError or PluginError; reaches nothing yet."""
    spec = plugins.find("tulle_stores", StoreSpec, config.store, "--store")
    try:
        store: Store = plugins.make(spec, config.store_settings)
    except ValueError as error:
        raise PluginError(f"--store {config.store}: {error}") from error
    return store


async def _run(config: DaemonConfig, plugins: Plugins, store: Store) -> int:
    # Heavy imports come after the flags have been found right.
    from tulle.kernel.underlay import NoUnderlay
    from tulle.lease.errors import DuplicateNode, SubnetLost
    from tulle.node.daemon import Daemon
    from tulle.node.identity import IdentityError
    from tulle.node.rundir import AlreadyRunning

    where = f"{config.store} at {store.location}"
    if config.store_default:
        where += " (single-machine store, since no endpoints were given; flannel would have used http://127.0.0.1:2379)"
    log.info("tulled %s node=%s store=%s prefix=%s", __version__, config.node_name, where, config.prefix)
    daemon = Daemon(config, plugins, store)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    try:
        await daemon.run()
    except (ConfigError, PluginError) as error:
        log.error("config-wrong %s", error)
        return 2
    except (
        AlreadyRunning,
        IdentityError,
        NoUnderlay,
        DuplicateNode,
        SubnetLost,
        Denied,
        OSError,
        ValueError,
    ) as error:
        log.error("cannot-go-on %s", error)
        return 1
    log.info("tulled ends; packets go on (`tulle down` takes everything away)")
    return 0


if __name__ == "__main__":
    main()
