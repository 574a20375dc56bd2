"""Process 1 of a lab: a tiny init. When it ends, by SIGTERM, by SIGKILL or because its owner is gone, the kernel ends
everything in the lab with it and takes all namespaces apart.

It starts as an ordinary process (`main`), makes the namespaces in two steps, because only its parent outside can give
it user ids, and says on a pipe, one JSON object a line, how far it is:

    {"step": "user"}        in the user namespace, waiting for a byte on the life pipe: the ids are mapped
    {"init": 4711}          process 1 exists, this is its pid outside
    {"ready": true}         file systems are in place, a TUN could be made
    {"failed": "tun", "errno": 13, "path": "/dev/net/tun"}   the step that was refused, instead of the above

The life pipe then ties the lab to its owner: end of file ends the lab, the byte "d" lets it live on alone.

It also keeps the namespaces of nodes and pods in being, by holding their descriptors: whoever makes some sends them to
KEEP_SOCKET as one JSON list of names with the descriptors, and finds them then as LAB_DIR/ns/NAME, which leads to
/proc/1/fd/N. (Bind mounts, the usual way, are refused at random for mount namespaces by Linux 6.18: EINVAL, since it
compares numbers that it no longer gives out in order.) Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tulle.lab import namespaces as ns

LAB_DIR = "/run/tulle-lab"
"""The lab's own files, on a tmpfs that the switch and all nodes see at this path."""

KEEP_SOCKET = f"{LAB_DIR}/keep.sock"
KEEP_MESSAGE_BYTES = 4096
KEEP_PATIENCE_S = 1.0
KEEP_DESCRIPTORS = 64
"""In one message; the kernel allows 253 (SCM_MAX_FD)."""

STATE_DIR = "/var/lib/tulle"

MAPPED = b"m"
DETACH = b"d"

# include/uapi/linux/if_tun.h; the flags are those of every TUN of tulle.
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_MULTI_QUEUE = 0x0100


class Refused(Exception):
    """A step that the kernel did not allow."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.report = {"failed": step, "errno": error.errno, "path": str(error.filename or "")}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Names what was tried, for the message to the user."""
    try:
        yield
    except OSError as error:
        raise Refused(name, error) from error


def main(argv: list[str]) -> int:
    """`init STATUS_FD LIFE_FD NAME`; the name is for `ps` alone. Returns the first process's exit status."""
    status, life = int(argv[0]), int(argv[1])
    os.setsid()
    try:
        with step("user"):
            ns.unshare(ns.CLONE_NEWUSER)
        say(status, {"step": "user"})
        if os.read(life, 1) != MAPPED:
            return 1
        with step("namespaces"):
            ns.unshare(ns.CLONE_NEWNS | ns.CLONE_NEWNET | ns.CLONE_NEWPID | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC)
        child = os.fork()
        if child:
            say(status, {"init": child})
            return 0
        prepare()
    except Refused as refused:
        say(status, refused.report)
        return 1
    wake = notice_signals()
    with listen() as keeper:
        say(status, {"ready": True})
        close_standard_streams()
        os.close(status)
        return work_until_the_end(wake, life, keeper)


def say(status: int, message: dict[str, Any]) -> None:
    os.write(status, json.dumps(message).encode() + b"\n")


def prepare() -> None:
    """Process 1: the lab's view of the file system, and a try of what needs more than namespaces."""
    with step("mounts"):
        # Slave: what the host unmounts later disappears here too, and nothing goes the other way.
        ns.mount("", "/", flags=ns.MS_REC | ns.MS_SLAVE)
        ns.sethostname("switch")
    with step("proc"):
        ns.mount("proc", "/proc", "proc", ns.MS_NOSUID | ns.MS_NODEV | ns.MS_NOEXEC)
    with step("mounts"):
        ns.mount("tmpfs", "/run", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=755")
        os.makedirs(f"{LAB_DIR}/ns")
        os.makedirs(f"{LAB_DIR}/logs")
        make_state_directory()
    with step("tun"):
        try_tun()


def make_state_directory() -> None:
    """Have /var/lib/tulle to mount on, without making anything on the host: where it is missing, /var/lib becomes a
    tmpfs that holds the host's entries by bind mounts."""
    if os.path.isdir(STATE_DIR):
        return
    host = os.open("/var/lib", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ns.mount("tmpfs", "/var/lib", "tmpfs", ns.MS_NOSUID | ns.MS_NODEV, "mode=755")
    source = f"/proc/self/fd/{host}"
    for entry in os.scandir(source):
        target = Path("/var/lib", entry.name)
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry.path))
            continue
        if entry.is_dir(follow_symlinks=False):
            target.mkdir()
        elif entry.is_file(follow_symlinks=False):
            target.touch()
        else:
            continue
        ns.mount(f"{source}/{entry.name}", str(target), flags=ns.MS_BIND | ns.MS_REC)
    os.close(host)
    os.mkdir(STATE_DIR)


def try_tun() -> None:
    """Make a TUN and let it go; it would be the first thing that each node needs."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", b"", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE)
        fcntl.ioctl(device, TUNSETIFF, request)
    except OSError as error:
        error.filename = "/dev/net/tun"
        raise
    finally:
        os.close(device)


def close_standard_streams() -> None:
    """Nobody who reads the owner's output to its end is to wait for us."""
    null = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)


def listen() -> socket.socket:
    """The socket at which descriptors are handed in."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # four for each node, one for each pod
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper.bind(KEEP_SOCKET)
    keeper.listen()
    return keeper


def notice_signals() -> int:
    """Returns a descriptor that gives the numbers of the signals that came. Before this, a SIGTERM to process 1 of a
    namespace is dropped by the kernel (pid_namespaces(7))."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    for noticed in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(noticed, lambda number, frame: None)
    return wake


def work_until_the_end(wake: int, life: int, keeper: socket.socket) -> int:
    """Wait for the dead and keep descriptors until SIGTERM comes or the owner is gone."""
    poller = select.poll()
    for watched in (wake, life, keeper.fileno()):
        poller.register(watched, select.POLLIN)
    reap()  # who died before the handler stood
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if wake in ready and signal.SIGTERM in os.read(wake, 512):
            return 0
        if life in ready:
            if os.read(life, 1) != DETACH:
                return 0
            poller.unregister(life)
        if keeper.fileno() in ready:
            keep(keeper)
        reap()


def keep(keeper: socket.socket) -> None:
    """Take descriptors in and answer when they can be found by name; what is not right is let go without an answer."""
    client, _ = keeper.accept()
    descriptors: list[int] = []
    with client:
        client.settimeout(KEEP_PATIENCE_S)
        try:
            message, descriptors, _, _ = socket.recv_fds(client, KEEP_MESSAGE_BYTES, KEEP_DESCRIPTORS)
            for name, descriptor in zip(json.loads(message), descriptors, strict=True):
                # Relative: from outside, a link that begins with "/" would lead out of the lab.
                os.symlink(f"../../../proc/1/fd/{descriptor}", f"{LAB_DIR}/ns/{name}")
            client.send(b"kept")
        except (ValueError, TypeError, OSError):
            for descriptor in descriptors:
                os.close(descriptor)


def reap() -> None:
    """Wait for every child that has ended; orphans of the lab are our children."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
