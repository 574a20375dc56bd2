"""What a kernel that will never make a device answers, by a process that has given up the right to."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from typing import Any

PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12  # linux/prctl.h, linux/capability.h
ASK = """
import asyncio, json
from ipaddress import ip_address
from tulle.kernel.netlink import Netlink
from tulle.kernel.state import Wanted, WantedLink, WantedVxlan

async def main():
    vxlan = WantedVxlan(1, 8472, "up0", ip_address("192.0.2.1"), "02:00:00:00:00:01")
    async with Netlink() as kernel:
        report = await kernel.reconcile(Wanted((WantedLink("flannel.1", 1450, None, vxlan=vxlan),)))
    print(json.dumps([[one.code, one.subject, one.message] for one in report.problems]))

asyncio.run(main())
"""


def test_without_the_right_to_make_a_device_the_problem_says_that_there_will_be_none(netns: Any) -> None:
    netns.batch("link add up0 type veth peer name up1\nlink set up0 up\naddress add 192.0.2.1/24 dev up0\n")
    libc = ctypes.CDLL(None, use_errno=True)

    def give_up() -> None:
        """A program that root executes gets what the bounding set holds (capabilities(7))."""
        if libc.prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")

    def ask() -> str:
        command = [sys.executable, "-c", ASK]
        return subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=give_up
        ).stdout

    ((code, subject, message),) = json.loads(netns.call(ask))
    assert (code, subject) == ("device-impossible", "flannel.1")
    assert "CAP_NET_ADMIN" in message
