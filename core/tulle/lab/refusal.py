"""What to say when a machine does not allow a lab: which step was refused, why, and the command that would allow it.

Pure: `Facts` is what `read_facts` saw of the machine.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"  # Ubuntu 23.10 and later
DEBIAN_SWITCH = "kernel.unprivileged_userns_clone"  # Debian before 11 and some hardened kernels
LIMITS = tuple(f"user.max_{kind}_namespaces" for kind in ("user", "mnt", "net", "pid", "uts", "ipc"))
ENOUGH_NAMESPACES = 10000
TUN = "/dev/net/tun"

STEPS = {
    "user": "make a user namespace",
    "map": "map user ids into a user namespace",
    "namespaces": "make network, mount and process namespaces",
    "mounts": "mount file systems of its own",
    "proc": "mount a /proc of its own",
    "tun": f"make a TUN device through {TUN}",
    "bridge": "make a bridge and veth pairs",
}


@dataclass(frozen=True)
class Facts:
    """What the machine says of itself."""

    root: bool
    seccomp: bool = False
    tun_exists: bool = True
    sysctls: Mapping[str, int] = field(default_factory=dict)
    """Those of APPARMOR, DEBIAN_SWITCH and LIMITS that exist."""


def read_facts() -> Facts:
    """Look at this machine, from outside any lab."""
    sysctls = {}
    for name in (APPARMOR, DEBIAN_SWITCH, *LIMITS):
        path = Path("/proc/sys", *name.split("."))
        if path.exists():
            sysctls[name] = int(path.read_text())
    status = Path("/proc/self/status").read_text()
    return Facts(
        root=os.geteuid() == 0,
        seccomp="Seccomp:\t2" in status,
        tun_exists=Path(TUN).exists(),
        sysctls=sysctls,
    )


def explain(report: Mapping[str, Any], facts: Facts) -> str:
    """The message for a `{"failed": step, "errno": n}` report of the lab's init."""
    step, code = str(report["failed"]), int(report["errno"])
    reason = os.strerror(code) if code else "no answer"
    return (
        f"This machine does not let the lab {STEPS.get(step, step)} ({reason}). {remedy(step, code, facts)}"
    )


def remedy(step: str, code: int, facts: Facts) -> str:
    """What to do next."""
    if step == "tun":
        return tun_remedy(code, facts)
    if step == "bridge":
        return "Load what the lab needs with: sudo modprobe -a bridge veth"
    if code == errno.ENOSPC:
        return limit_remedy(facts)
    unprivileged = not facts.root
    if unprivileged and facts.sysctls.get(APPARMOR) == 1:
        return (
            f"AppArmor's default forbids it to users; allow it with: sudo sysctl -w {APPARMOR}=0, or use sudo"
        )
    if unprivileged and facts.sysctls.get(DEBIAN_SWITCH) == 0:
        return (
            f"The kernel is set to refuse users; allow it with: sudo sysctl -w {DEBIAN_SWITCH}=1, or use sudo"
        )
    if step == "proc":
        return "In a container, start it with: docker run --security-opt systempaths=unconfined … (or --privileged)"
    if facts.seccomp:
        return (
            "A system call filter is on, as in a container; start it with: docker run --security-opt "
            "seccomp=unconfined --security-opt apparmor=unconfined --device /dev/net/tun … (or --privileged)"
        )
    if unprivileged:
        return "Run it as root: sudo tulle lab …"
    return (
        "Run it where root may make namespaces: outside a chroot, or in a container started with --privileged"
    )


def tun_remedy(code: int, facts: Facts) -> str:
    if code == errno.ENOENT or code == errno.ENODEV or not facts.tun_exists:
        return "Load the driver with: sudo modprobe tun (in a container, start it with --device /dev/net/tun)"
    if code == errno.EACCES and not facts.root:
        return f"Let users open it, as most distributions do, with: sudo chmod 0666 {TUN}"
    return "In a container, start it with --device /dev/net/tun and, where that is not enough, --privileged"


def limit_remedy(facts: Facts) -> str:
    """ENOSPC: the number of namespaces has a limit for each user (namespaces(7))."""
    tight = [name for name in LIMITS if facts.sysctls.get(name, ENOUGH_NAMESPACES) < ENOUGH_NAMESPACES]
    commands = " ".join(f"{name}={ENOUGH_NAMESPACES}" for name in tight or LIMITS)
    return f"The limit on namespaces is reached; raise it with: sudo sysctl -w {commands}"
