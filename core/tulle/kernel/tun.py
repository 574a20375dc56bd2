"""TUN descriptors: created, joined by further queues, and recognised when they come back from the forwarder.

Every TUN has IFF_NO_PI, IFF_VNET_HDR and IFF_MULTI_QUEUE, which cannot be changed later, so that any engine can
take it over. Descriptors are plain numbers, owned by the `Tun`: they go over a control socket (SCM_RIGHTS) and
outlive the process that opened them. Requests and flags: linux/if_tun.h, tuntap.rst in the kernel's documents.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

import pytun

from tulle.kernel.holders import tun_holders

TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
TUNSETVNETHDRSZ = 0x400454D8

FLAGS = pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR | pytun.IFF_MULTI_QUEUE
FLAG_NAMES = {
    pytun.IFF_TUN: "IFF_TUN",
    pytun.IFF_NO_PI: "IFF_NO_PI",
    pytun.IFF_VNET_HDR: "IFF_VNET_HDR",
    pytun.IFF_MULTI_QUEUE: "IFF_MULTI_QUEUE",
}

VNET_HEADER_BYTES = 10
"""struct virtio_net_hdr without the count of merged buffers (linux/virtio_net.h)."""

NAME_BYTES = 16
"""IFNAMSIZ, with the ending zero byte (linux/if.h)."""
IFREQ = struct.Struct(f"{NAME_BYTES}sH22x")
"""struct ifreq on 64-bit machines: name, flags."""


class DeviceLost(OSError):
    """The descriptor is a TUN's, but its device was deleted: close it and open a new one."""


class Tun:
    """One queue of a TUN device."""

    def __init__(self, name: str, fd: int) -> None:
        """Takes over the descriptor."""
        self.name = name
        self._fd = fd

    def fileno(self) -> int:
        """-1 once closed. It is not inherited by programs that are executed."""
        return self._fd

    def alive(self) -> bool:
        """False once the device was deleted, or renamed, or this is closed."""
        try:
            return self._fd >= 0 and _describe(self._fd)[0] == self.name
        except OSError:
            return False

    def close(self) -> None:
        """The device goes with its last descriptor. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Tun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_tun(name: str) -> Tun:
    """Create the device with its first queue, down and without addresses. Raises OSError, for a name that is
    taken too: the text says by what, and what to do."""
    if not 0 < len(name.encode()) < NAME_BYTES:
        raise OSError(errno.EINVAL, f"{name!r} is no name for a TUN: 1 to {NAME_BYTES - 1} bytes are allowed")
    try:
        device = pytun.TunTapDevice(name=name, flags=FLAGS | pytun.IFF_TUN_EXCL)
    except pytun.Error as error:
        code = error.errno or errno.EIO
        raise OSError(code, _why_not(name, code)) from error
    return _take(device, name)


def attach(name: str) -> Tun:
    """One more queue of a device that is there. Raises OSError where it is not one of ours or is gone."""
    if not _exists(name):
        raise DeviceLost(errno.ENODEV, f"{name}: there is no such device to add a queue to; open it anew")
    try:
        device = pytun.TunTapDevice(name=name, flags=FLAGS)
    except pytun.Error as error:
        code = error.errno or errno.EIO
        raise OSError(code, _why_not(name, code)) from error
    return _take(device, name)


def adopt(fd: int) -> Tun:
    """A descriptor that came back from a running forwarder. On success the `Tun` owns it; on an error the caller
    still does. Raises DeviceLost where its device is gone, OSError where it is no TUN with our flags."""
    name, flags = _describe(fd)
    _check_flags(name, flags)
    os.set_blocking(fd, False)
    return Tun(name, fd)


def set_offload(fd: int, features: int) -> None:
    """What the reader of the queues understands beyond whole packets: TUN_F_* bits, 0 for nothing. Holds for all
    queues of the device; needs no rights. Raises OSError (EINVAL: this kernel does not know a bit)."""
    fcntl.ioctl(fd, TUNSETOFFLOAD, features)


def _take(device: pytun.TunTapDevice, name: str) -> Tun:
    """pytun closes its descriptor with its object, so a copy goes on."""
    try:
        fd = fcntl.fcntl(device.fileno(), fcntl.F_DUPFD_CLOEXEC, 0)
    finally:
        device.close()
    try:
        found, flags = _describe(fd)
        _check_flags(found, flags)
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
        set_offload(fd, 0)
        os.set_blocking(fd, False)
    except BaseException:
        os.close(fd)
        raise
    return Tun(name, fd)


def _describe(fd: int) -> tuple[str, int]:
    """Name and flags of a descriptor's device."""
    try:
        answer = fcntl.ioctl(fd, TUNGETIFF, bytes(IFREQ.size))
    except OSError as error:
        if error.errno == errno.EBADFD:
            raise DeviceLost(errno.EBADFD, f"descriptor {fd}: its TUN was deleted; open a new one") from error
        raise OSError(
            error.errno, f"descriptor {fd} is not a TUN's ({os.strerror(error.errno or 0)})"
        ) from error
    name, flags = IFREQ.unpack(answer)
    return name.rstrip(b"\0").decode(errors="replace"), flags


def _check_flags(name: str, flags: int) -> None:
    missing = [word for bit, word in FLAG_NAMES.items() if not flags & bit]
    if missing:
        raise OSError(
            errno.EINVAL,
            f"{name} lacks {', '.join(missing)}, which cannot be set later: remove it (ip link delete {name}), "
            f"tulle then makes its own",
        )


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _why_not(name: str, code: int) -> str:
    """Why the kernel refused, for people."""
    if _exists(name):
        holders = " and ".join(map(str, tun_holders(name)))
        by = f", held by {holders}: stop that" if holders else f": remove it (ip link delete {name})"
        return f"there is already a device {name} that is not this tulled's{by}, or choose another name"
    if code in (errno.EPERM, errno.EACCES):
        return (
            f"{name} cannot be created: tulled needs the capability CAP_NET_ADMIN and access to /dev/net/tun"
        )
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"{name} cannot be created: /dev/net/tun is missing; load the driver (modprobe tun)"
    return f"{name} cannot be created: {os.strerror(code)}"
