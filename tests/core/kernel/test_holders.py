"""Reading /proc/net/udp."""

from __future__ import annotations

import os
import socket

from tulle.kernel.holders import Holder, port_inodes, udp_port_holders

TABLE = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  101: 00000000:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0 0
  102: 0100007F:205D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4243 2 0 0
  103: 00000000:0035 0100007F:205D 01 00000000:00000000 00:00000000 00000000     0        0 4244 2 0 0
"""


def test_the_sockets_of_a_local_port_are_found_whatever_their_address() -> None:
    assert port_inodes(TABLE, 8285) == {4242, 4243}
    assert port_inodes(TABLE, 53) == {4244}
    assert port_inodes(TABLE, 54) == frozenset()


def test_a_line_that_is_cut_short_is_passed_over() -> None:
    lines = TABLE.splitlines()
    assert port_inodes("\n".join([lines[0], lines[1][:90], lines[2]]), 8285) == {4243}


def test_this_process_is_found_as_the_holder_of_its_own_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        found = udp_port_holders(held.getsockname()[1])
    with open("/proc/self/comm") as name:
        assert found == [Holder(name.read().strip(), os.getpid())]


def test_a_holder_reads_as_name_and_pid() -> None:
    assert str(Holder("flanneld", 17)) == "flanneld (pid 17)"
