"""tulled runs, answers and is ready; its forwarder runs and is of the same version."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tulle import __version__
from tulle.contracts.backend import JsonObject
from tulle.contracts.doctor import DoctorContext, Finding
from tulle.node.rundir import RunDir

UNIT_FILES = (
    Path("/etc/systemd/system/tulled.service"),
    Path("/usr/lib/systemd/system/tulled.service"),
    Path("/lib/systemd/system/tulled.service"),
)


async def tulled(ctx: DoctorContext) -> list[Finding]:
    return judge_tulled(
        ctx, RunDir(ctx.run_dir).holder(), start_command("restart" if ctx.status else "start")
    )


async def forwarder(ctx: DoctorContext) -> list[Finding]:
    processes: dict[str, dict[int, str]] = {}
    for pid, plane in RunDir(ctx.run_dir).forwarders().items():
        processes.setdefault(plane, {})[pid] = fingerprint(Path(f"/proc/{pid}/cmdline"))
    return judge_forwarders(processes, ctx.status, start_command("restart"))


def start_command(verb: str) -> str:
    """How tulled is started here: by its unit where one is installed."""
    if any(path.exists() for path in UNIT_FILES):
        return f"systemctl {verb} tulled"
    return "tulled  # with the flags that this node is to have"


def fingerprint(cmdline: Path) -> str:
    """What a forwarder was started as: "tulle 0.1.0, engine python, encapsulation udp"; "" where it has ended."""
    try:
        words = cmdline.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return words[words.index("--fingerprint") + 1] if "--fingerprint" in words[:-1] else ""


def judge_tulled(ctx: DoctorContext, holder: int | None, mend: str) -> list[Finding]:
    """Pure; `holder`: the pid of the tulled that holds the run directory."""
    subject = str(ctx.run_dir)
    if ctx.status is None:
        if holder is None:
            what = f"no tulled runs with this run directory ({ctx.status_error})"
            why = (
                "leases run out, and peers that come or change are not followed; packets to known peers go on"
            )
            return [Finding(severity="error", subject=subject, what=what, why=why, mend=mend)]
        what = f"tulled (pid {holder}) runs but does not answer: {ctx.status_error}"
        why = "it may hang, or this user may not ask it"
        return [Finding(severity="error", subject=subject, what=what, why=why, mend=f"kill {holder}; {mend}")]
    found = [_problem(one) for one in ctx.status.get("problems", ())]
    if not ctx.status["ready"]:
        what = f"tulled is not ready: {'; '.join(ctx.status['not_ready_because'])}"
        why = "pods of this node are not joined to the others"
        advice = "tulle status  # and the log of tulled; the other findings here may say why"
        found.insert(0, Finding(severity="error", subject=ctx.node, what=what, why=why, mend=advice))
    if ctx.status["version"] != __version__:
        what = f"tulled is of version {ctx.status['version']}, this command of {__version__}"
        why = "what was installed last does not run yet"
        found.append(Finding(severity="warning", subject="tulled", what=what, why=why, mend=mend))
    return found or [Finding(severity="ok", subject=ctx.node, what="tulled runs, answers and is ready")]


def _problem(one: JsonObject) -> Finding:
    """A problem that tulled reports itself; its message says what to do."""
    why = "tulled tries again by itself, but cannot mend this alone"
    return Finding(
        severity="error", subject=str(one["subject"]), what=str(one["message"]), why=why, mend="tulle status"
    )


def judge_forwarders(
    processes: Mapping[str, dict[int, str]],
    status: JsonObject | None,
    restart: str,
    version: str = __version__,
) -> list[Finding]:
    """Pure. Of all planes; those of a name that tulled does not know are strays."""
    told = {} if status is None else {"": status.get("dataplane", {}), **status.get("second_dataplanes", {})}
    found = judge_forwarder(processes.get("", {}), told.get(""), restart, version)
    for plane in sorted({*processes, *told} - {""}):
        here = processes.get(plane, {})
        if status is not None and plane not in told:
            found += _strays(here)
        else:
            found += judge_forwarder(here, told.get(plane), restart, version)
    return found


def judge_forwarder(
    processes: dict[int, str], plane: JsonObject | None, restart: str, version: str = __version__
) -> list[Finding]:
    """Pure. `processes`: what runs, by pid; `plane`: what tulled says of its data plane, None without a tulled."""
    if plane is not None and not plane.get("engine"):
        return [_skipped("tulled has no forwarder (yet): this backend needs none, or it is still starting")]
    if not processes:
        if plane is None:
            return [_skipped("no tulled runs, and no forwarder either: a kernel backend needs none")]
        what, why = "no forwarder runs", "no packet passes the tunnel; tulled starts one within a second"
        return [Finding(severity="error", subject="tulle-forwarder", what=what, why=why, mend=restart)]
    found = _too_many(processes, plane) + [
        Finding(
            severity="warning",
            subject=f"forwarder {pid}",
            what=f"it was started as {started!r}, this is tulle {version}",
            why="the data path still runs what was installed before",
            mend=restart,
        )
        for pid, started in processes.items()
        if started and started.split(",")[0] != f"tulle {version}"
    ]
    ok = f"runs as {', '.join(processes.values())}"
    return found or [Finding(severity="ok", subject=_names(processes), what=ok)]


def _too_many(processes: Collection[int], plane: JsonObject | None) -> list[Finding]:
    known = plane.get("forwarder_pid") if plane is not None else None
    return _strays([pid for pid in processes if pid != known] if known else list(processes)[1:])


def _strays(pids: Iterable[int]) -> list[Finding]:
    return [
        Finding(
            severity="warning",
            subject=f"forwarder {pid}",
            what="a second forwarder runs with this run directory",
            why="two processes read the same tunnel: a part of the packets goes by what is no longer true",
            mend=f"kill {pid}",
        )
        for pid in pids
    ]


def _names(processes: Collection[int]) -> str:
    return ", ".join(f"forwarder {pid}" for pid in processes)


def _skipped(what: str) -> Finding:
    return Finding(severity="skipped", subject="tulle-forwarder", what=what)
