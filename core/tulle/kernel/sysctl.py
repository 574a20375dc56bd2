"""Sysctls as desired state, with the old values kept so that `tulle down` can put them back.

Keys are paths below /proc/sys ("net/ipv4/ip_forward"), since names of interfaces may contain dots. The caller
stores what `apply` remembers and hands it in again at the next start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from tulle.contracts.backend import Problem
from tulle.net.prefix import Family

ROOT = Path("/proc/sys")

IP_FORWARD = "net/ipv4/ip_forward"
IP6_FORWARD = "net/ipv6/conf/all/forwarding"
CONF = {IP_FORWARD: "net/ipv4/conf", IP6_FORWARD: "net/ipv6/conf"}
"""Writing one of these sets `forwarding` of every interface below that directory (ip-sysctl.rst)."""


class Old(msgspec.Struct, frozen=True):
    """A value before we changed it."""

    was: str
    set: str | None = None
    """What we set. None: the kernel changed it along with a general key (see CONF)."""


class Applied(msgspec.Struct, frozen=True):
    """What was done. `remembered` is what `restore` needs, what was handed in included; JSON-ready by msgspec."""

    changed: tuple[str, ...]
    problems: tuple[Problem, ...]
    remembered: Mapping[str, Old]


def forwarding(families: Collection[Family], uplink: str, root: Path = ROOT) -> dict[str, str]:
    """The values that a node needs to forward packets of these families, in the order to set them.

    A Linux that forwards IPv6 no longer listens to router advertisements where accept_ra is 1, and so would lose
    the default route that it learned on the uplink; 2 keeps it listening."""
    wanted = {}
    if 4 in families:
        wanted[IP_FORWARD] = "1"
    if 6 in families:
        accept_ra = f"net/ipv6/conf/{uplink}/accept_ra"
        if _read(root, accept_ra) in ("1", "2"):
            wanted[accept_ra] = "2"
        wanted[IP6_FORWARD] = "1"
    return wanted


def own_icmp_errors(device: str) -> dict[str, str]:
    """So that the ICMP errors which an engine writes into a TUN reach the pods: their source is the TUN's own address,
    and IPv4 drops what comes in with an address of this host (IPv6 does not). It goes with the device."""
    return {f"net/ipv4/conf/{device}/accept_local": "1"}


def apply(wanted: Mapping[str, str], remembered: Mapping[str, Old], root: Path = ROOT) -> Applied:
    """Set what differs. Idempotent; a value that is set for the first time is remembered as it was."""
    changed: list[str] = []
    problems: list[Problem] = []
    kept = dict(remembered)
    for key, value in wanted.items():
        was = _read(root, key)
        if was == value:
            continue
        before = _forwarding_below(root, key)
        try:
            (root / key).write_text(value)
        except OSError as error:
            problems.append(_refused(key, value, was, error))
            continue
        kept = {key: Old(was or "", value), **before, **kept}
        changed.append(f"{_dotted(key)} was {was}, set to {value}")
    return Applied(tuple(changed), tuple(problems), kept)


def restore(remembered: Mapping[str, Old], root: Path = ROOT) -> list[str]:
    """Put back what `apply` remembered. A value that somebody has changed since is left alone. Returns a line
    for each that was put back."""
    ours = {
        key: old for key, old in remembered.items() if old.set is not None and _read(root, key) == old.set
    }
    directories = tuple(f"{CONF[key]}/" for key in ours if key in CONF)
    along = {key: old for key, old in remembered.items() if old.set is None and key.startswith(directories)}
    lines = []
    for key, old in (*ours.items(), *along.items()):
        if _read(root, key) in (None, old.was):
            continue
        try:
            (root / key).write_text(old.was)
        except OSError:
            continue  # its interface has gone, or /proc/sys became read-only: nothing can be put back
        lines.append(f"{_dotted(key)}: put back to {old.was}")
    return lines


def _forwarding_below(root: Path, key: str) -> dict[str, Old]:
    """The interfaces that forwarded already: restoring the general key would turn them off."""
    if key not in CONF:
        return {}
    return {
        f"{CONF[key]}/{path.parent.name}/forwarding": Old("1")
        for path in sorted((root / CONF[key]).glob("*/forwarding"))
        if path.parent.name != "all" and _read(root, str(path.relative_to(root))) == "1"
    }


def _read(root: Path, key: str) -> str | None:
    try:
        return (root / key).read_text().strip()
    except OSError:
        return None


def _dotted(key: str) -> str:
    """As sysctl(8) takes it: dots in an interface's name become slashes."""
    return key.replace(".", "\0").replace("/", ".").replace("\0", "/")


def _refused(key: str, value: str, was: str | None, error: OSError) -> Problem:
    if was is None:
        family = "IPv6" if "ipv6" in key else "IPv4"
        message = (
            f"{_dotted(key)} does not exist: this kernel has no {family} here; enable it or leave it out"
        )
    else:
        message = (
            f"{_dotted(key)} is {was} and cannot be set ({error.strerror}), so packets are not forwarded: on the "
            f"host run `sysctl -w {_dotted(key)}={value}`"
        )
    return Problem("sysctl-refused", _dotted(key), message)
