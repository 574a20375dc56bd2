"""`tulled`: the program. Reads flags, environment and config file, opens the store (or the subnet manager in its
place), runs the daemon, answers signals.

Exit status: 0 after SIGTERM or `tulle down`, 1 when the node cannot go on, 2 for a configuration that is wrong.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tulle import __version__
from tulle.config.core_options import CORE_OPTIONS, SINGLE_MACHINE
from tulle.config.daemon import DaemonConfig
from tulle.config.effective import as_json, as_text, effective, unused
from tulle.config.errors import ConfigError
from tulle.config.flags import peek
from tulle.contracts.specs import StoreSpec, load
from tulle.node import logs
from tulle.node.settings import Settings, gather
from tulle.plugins import PluginError, Plugins, load_plugins
from tulle.worker.sandbox import leave_no_core

if TYPE_CHECKING:
    import asyncio

    from tulle.node.daemon import Daemon
    from tulle.node.membership import Membership
    from tulle.node.reload import Reloader

log = logging.getLogger("tulle.node")

SUMMARY = "Joins this node's pods to the cluster's network."


def main(argv: Sequence[str] | None = None) -> None:
    leave_no_core()  # the store's password is in here, from the first flag on
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """The exit status."""
    if list(argv) in (["--version"], ["-version"]):  # whatever is wrong with a plugin
        print(__version__)
        return 0
    logs.set_up(0, peek(CORE_OPTIONS, argv, os.environ, "log-format") or "text")
    plugins = load_plugins()
    try:
        settings = gather(plugins, argv, os.environ)
        config = settings.config
        if config is None:
            print(_answer(settings), end="")
            return 0
        if settings.parsed.check:
            check_store(config, plugins)
            print(_effective(settings, config, plugins), end="")
            return 0
        from tulle.node.membership import open_membership  # heavy: only when the flags have been found right

        lines = logs.Log(config.verbosity, config.log_format)
        membership = open_membership(config, plugins)
    except (ConfigError, PluginError) as error:
        print(f"tulled: {error}", file=sys.stderr)
        return 2
    import asyncio

    from tulle.node.rights import what_is_lacking

    _tell_inactive(settings)
    _tell_unused(settings, config, plugins)
    try:
        _tell_start(settings, config, membership)
        lacking = what_is_lacking(config)
        if lacking:
            log.error("cannot-go-on %s", lacking)
            return 1
        return asyncio.run(
            _run(settings, config, plugins, membership, lines, lambda: gather(plugins, argv, os.environ))
        )
    finally:
        lines.tell_ended(everything=True)


def _answer(settings: Settings) -> str:
    """To --help and --version."""
    from tulle.config.help import help_text

    if settings.parsed.asked == "version":
        return f"{__version__}\n"
    return help_text(settings.groups, "tulled", SUMMARY)


def _effective(settings: Settings, config: DaemonConfig, plugins: Plugins) -> str:
    found = effective(settings.groups, settings.parsed, config, plugins.store_choices())
    if settings.parsed.check == "json":
        return as_json(found, settings.file) + "\n"
    return as_text(found, settings.file)


def _tell_inactive(settings: Settings) -> None:
    for name, part in settings.parsed.inactive.items():
        source = settings.parsed.sources[name]
        log.warning("flag-inactive --%s (%s) has no effect: this tulle has no %s yet", name, source, part)


def _tell_unused(settings: Settings, config: DaemonConfig, plugins: Plugins) -> None:
    """One line for each store that is not in use and was given flags: who gave them meant that store, perhaps."""
    parsed, choices = settings.parsed, plugins.store_choices()
    found = unused(parsed, config, choices)
    for spec in choices:
        flags = [f"--{name} ({parsed.sources[name]})" for name, owner in found.items() if owner == spec.name]
        if not flags:
            continue
        why = "nothing chose another" if config.store_default else "that was asked for"
        if parsed.sources["store"] != "default":
            why = f"--store={parsed.values['store']} ({parsed.sources['store']})"
        log.warning(
            "flag-unused %s: of store %s, and %s is in use: %s; to use it give --store=%s, else leave them out",
            *(", ".join(flags), spec.name, config.store, why, spec.name),
        )


def check_store(config: DaemonConfig, plugins: Plugins) -> None:
    """What the store says to its settings without being opened. Raises PluginError."""
    spec = plugins.store_choice(config.store)
    if not isinstance(spec, StoreSpec) or not spec.check:
        return
    try:
        load(spec.check)(config.store_settings)
    except ValueError as error:
        raise PluginError(f"--store {config.store}: {error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(
            f"--store {config.store}: its code {spec.check} failed ({reason}). "
            "This is a fault of the plugin: report it, or choose another store."
        ) from error


def _tell_start(settings: Settings, config: DaemonConfig, membership: Membership) -> None:
    where = f"{membership.name} at {membership.location}"
    if config.store_default:
        where += f" ({SINGLE_MACHINE})"
    log.info(
        "starting tulled=%s node=%s store=%s prefix=%s",
        __version__,
        config.node_name,
        where,
        membership.prefix or "none",
    )
    for name in sorted(settings.parsed.given):
        log.debug("setting --%s=%s (%s)", name, settings.parsed.shown()[name], settings.parsed.sources[name])


async def _run(
    settings: Settings,
    config: DaemonConfig,
    plugins: Plugins,
    membership: Membership,
    lines: logs.Log,
    read_again: Callable[[], Settings],
) -> int:
    # Heavy imports come after the flags have been found right.
    import asyncio

    from tulle.node.daemon import Daemon
    from tulle.node.reload import Reloader

    daemon = Daemon(config, plugins, membership)
    loop = asyncio.get_running_loop()
    telling = asyncio.create_task(_tell_held_back(lines))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    hung_up = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    reloading = asyncio.create_task(_reload(hung_up, Reloader(settings, read_again, lines, daemon)))
    try:
        return await _to_its_end(daemon)
    finally:
        telling.cancel()
        reloading.cancel()


async def _to_its_end(daemon: Daemon) -> int:
    """Errors whose text is made for people are its last word, with an exit status; others are bugs and are raised."""
    from tulle.kernel.underlay import NoUnderlay
    from tulle.node.identity import IdentityError
    from tulle.node.membership import ENDS, ManagerFault
    from tulle.node.rundir import AlreadyRunning

    try:
        await daemon.run()
    except (ConfigError, PluginError) as error:
        log.error("config-wrong %s", error)
        return 2
    except (AlreadyRunning, IdentityError, NoUnderlay, *ENDS) as error:
        log.error("cannot-go-on %s", error)
        return 1
    except ManagerFault as error:
        log.error("cannot-go-on %s", error, exc_info=error.__cause__)
        return 1
    if daemon.leaves_something:
        log.info("ended packets go on (`tulle down` takes everything away)")
    else:
        log.info("ended nothing of tulle's is set up here")
    return 0


async def _reload(hung_up: asyncio.Event, reloader: Reloader) -> None:
    """One after the other; what comes meanwhile counts as one."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        await reloader.reload()


async def _tell_held_back(lines: logs.Log) -> None:
    """A line that is held back has nothing after it that would tell of it."""
    import asyncio

    while True:
        await asyncio.sleep(logs.WINDOW_S)
        lines.tell_ended()


if __name__ == "__main__":
    main()
