"""The forwarder's UDP sockets on the real kernel."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.contracts.backend import Listen
from tulle.kernel import udp
from tulle.kernel.udp import open_udp, set_options
from tulle.net.prefix import Family

pytestmark = pytest.mark.lab

PORT = 8285
FAMILIES: list[Family] = [4, 6]


def option(opened: socket.socket, level: int, name: int) -> int:
    return opened.getsockopt(level, name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fragment", [True, False])
def test_a_socket_has_all_that_needs_rights(netns: Any, family: Family, fragment: bool) -> None:
    with netns.call(open_udp, Listen(family, PORT, fragment)) as opened:
        assert opened.getsockname()[:2] == ("0.0.0.0" if family == 4 else "::", PORT)
        assert opened.gettimeout() == 0
        assert not opened.get_inheritable()
        assert option(opened, socket.IPPROTO_UDP, udp.UDP_GRO) == 1
        # The kernel doubles what is asked for (socket(7)).
        assert option(opened, socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * udp.BUFFER_BYTES
        assert option(opened, socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * udp.BUFFER_BYTES
        level, name = (
            (socket.IPPROTO_IP, udp.IP_MTU_DISCOVER)
            if family == 4
            else (socket.IPPROTO_IPV6, udp.IPV6_MTU_DISCOVER)
        )
        assert option(opened, level, name) == (udp.PMTUDISC_DONT if fragment else udp.PMTUDISC_DO)


TELLING = {
    4: (socket.IPPROTO_IP, (udp.IP_PKTINFO, socket.IP_RECVTOS)),
    6: (socket.IPPROTO_IPV6, (socket.IPV6_RECVPKTINFO, socket.IPV6_RECVTCLASS)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_can_change_is_changed_both_ways_on_a_socket_in_use(netns: Any, family: Family) -> None:
    level, names = TELLING[family]
    plain, telling = (
        Listen(family, PORT, True),
        Listen(family, PORT, False, tells=True, mark=0xFFFF_FFFE),
    )

    def seen(opened: socket.socket) -> tuple[list[int], int, int]:
        mtu = udp.IP_MTU_DISCOVER if family == 4 else udp.IPV6_MTU_DISCOVER
        return (
            [option(opened, level, name) for name in names],
            option(opened, socket.SOL_SOCKET, socket.SO_MARK) & udp.MARK_MASK,
            option(opened, level, mtu),
        )

    with netns.call(open_udp, plain) as opened, socket.socket(fileno=os.dup(opened.fileno())) as shared:
        for _ in range(2):
            assert seen(shared) == ([0, 0], 0, udp.PMTUDISC_DONT)
            set_options(opened, telling)
            assert seen(shared) == ([1, 1], 0xFFFF_FFFE, udp.PMTUDISC_DO)
            set_options(opened, plain)
    with netns.call(open_udp, telling) as opened:
        assert seen(opened) == ([1, 1], 0xFFFF_FFFE, udp.PMTUDISC_DO)


def test_a_mark_without_rights_is_explained_and_none_needs_no_rights() -> None:
    script = (
        "import os\n"
        "from tulle.contracts.backend import Listen\n"
        "from tulle.kernel.udp import open_udp\n"
        "os.setuid(65534)\n"
        "open_udp(Listen(4, 8285, True)).close()\n"
        "try:\n"
        "    open_udp(Listen(4, 8285, True, mark=7))\n"
        "except OSError as error:\n"
        "    print(error.errno, error.strerror)\n"
    )
    if os.getuid():
        pytest.skip("needs root, to give it up")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{errno.EPERM} port 8285/udp (IPv4): the firewall mark 0x7 needs the capability CAP_NET_ADMIN; give it, or "
        "take the mark away\n"
    )


def test_both_families_share_a_port_and_get_only_their_own(netns: Any) -> None:
    def exchange() -> tuple[bytes, bytes]:
        with (
            open_udp(Listen(4, PORT, True)) as four,
            open_udp(Listen(6, PORT, True)) as six,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to_four,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as to_six,
        ):
            to_four.sendto(b"four", ("127.0.0.1", PORT))
            to_six.sendto(b"six", ("::1", PORT))
            return four.recv(100), six.recv(100)

    assert netns.call(exchange) == (b"four", b"six")


@pytest.mark.parametrize("fragment", [True, False])
def test_fragmentation_is_allowed_or_df_is_set(netns: Any, fragment: bool) -> None:
    netns.batch("link add x type veth peer name y\nlink set x mtu 1300 up\naddress add 10.0.0.1/24 dev x\n")

    def send() -> None:
        with open_udp(Listen(4, PORT, fragment)) as opened:
            opened.sendto(bytes(1400), ("10.0.0.2", PORT))

    if fragment:
        netns.call(send)
    else:
        with pytest.raises(OSError, match="Message too long"):
            netns.call(send)


@pytest.mark.parametrize("holder_family", FAMILIES)
def test_who_holds_the_port_is_named(netns: Any, holder_family: Family) -> None:
    """A dual-stack IPv6 socket is in the way of IPv4 as well."""
    script = (
        "import socket, sys\n"
        f"s = socket.socket(socket.{'AF_INET' if holder_family == 4 else 'AF_INET6'}, socket.SOCK_DGRAM)\n"
        f"s.bind(('', {PORT}))\n"
        "print('bound', flush=True)\n"
        "sys.stdin.read()\n"
    )

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True)

    with netns.call(start) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "bound\n"
        with pytest.raises(OSError, match="in use by") as caught:
            netns.call(open_udp, Listen(4, PORT, True))
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
        holder.stdin.close()
        assert holder.wait(30) == 0
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value).endswith(
        f"port 8285/udp (IPv4) is in use by {name} (pid {holder.pid}): stop it or set Backend.Port"
    )
    with netns.call(open_udp, Listen(4, PORT, True)):
        pass  # the failed attempt left nothing behind


def test_a_port_that_the_kernel_itself_holds_is_explained(netns: Any) -> None:
    netns.batch("link add v0 type vxlan id 1 dstport 8472 local 127.0.0.1 dev lo\nlink set v0 up\n")
    with pytest.raises(OSError, match="by the kernel"):
        netns.call(open_udp, Listen(4, 8472, True))


def test_without_rights_the_buffers_are_as_large_as_the_administrator_allows() -> None:
    """In a user namespace of its own, as `tulle lab` has it: SO_RCVBUFFORCE is refused there."""
    script = (
        "import socket\n"
        "from tulle.contracts.backend import Listen\n"
        "from tulle.kernel.udp import open_udp\n"
        "with open_udp(Listen(4, 8285, True)) as s:\n"
        "    print(s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))\n"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip("this kernel allows no user namespaces")
    assert done.returncode == 0, done.stderr
    with open("/proc/sys/net/core/rmem_max") as limit:
        assert int(done.stdout) == 2 * min(int(limit.read()), udp.BUFFER_BYTES)


def test_no_descriptor_is_left_when_opening_fails(netns: Any) -> None:
    with netns.call(open_udp, Listen(6, PORT, False)):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="in use"):
            netns.call(open_udp, Listen(6, PORT, False))
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def untested() -> Iterator[None]:
    """As at the start of a process."""
    udp.gro_is_off.cache_clear()
    yield
    udp.gro_is_off.cache_clear()


def test_this_kernel_receives_trains_as_they_were_sent(untested: None) -> None:
    assert udp.gro_is_off() == ""


def test_a_kernel_that_changes_trains_gets_no_gro(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, netns: Any, untested: None
) -> None:
    monkeypatch.setattr(udp, "_received", lambda sock, total: [b"x" * total])
    assert "arrived changed" in udp.gro_is_off()
    assert "gro-off" in caplog.text
    with netns.call(open_udp, Listen(4, PORT, True)) as opened:
        assert option(opened, socket.IPPROTO_UDP, udp.UDP_GRO) == 0


def test_where_loopback_is_down_nothing_is_proven_and_gro_is_on(netns: Any, untested: None) -> None:
    netns.ip("link set lo down")
    assert netns.call(udp.gro_is_off) == ""
