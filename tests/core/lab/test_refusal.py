"""Each refusal names the command that would allow it."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from tulle.lab.refusal import APPARMOR, DEBIAN_SWITCH, LIMITS, Facts, explain, read_facts

USER = Facts(root=False)


@pytest.mark.parametrize(
    ("step", "code", "facts", "command"),
    [
        ("namespaces", errno.EPERM, Facts(False, sysctls={APPARMOR: 1}), f"sudo sysctl -w {APPARMOR}=0"),
        ("mounts", errno.EACCES, Facts(False, sysctls={APPARMOR: 1}), f"sudo sysctl -w {APPARMOR}=0"),
        ("user", errno.EPERM, Facts(False, sysctls={DEBIAN_SWITCH: 0}), f"sudo sysctl -w {DEBIAN_SWITCH}=1"),
        (
            "user",
            errno.ENOSPC,
            Facts(False, sysctls={LIMITS[0]: 0}),
            "sysctl -w user.max_user_namespaces=10000",
        ),
        ("namespaces", errno.ENOSPC, Facts(True, sysctls={LIMITS[2]: 5}), "user.max_net_namespaces=10000"),
        ("tun", errno.EACCES, USER, "sudo chmod 0666 /dev/net/tun"),
        ("tun", errno.ENOENT, Facts(True, tun_exists=False), "sudo modprobe tun"),
        ("tun", errno.EPERM, Facts(True), "--device /dev/net/tun"),
        ("bridge", errno.EOPNOTSUPP, Facts(True), "sudo modprobe -a bridge veth"),
        ("proc", errno.EPERM, Facts(True), "systempaths=unconfined"),
        ("user", errno.EPERM, Facts(True, seccomp=True), "seccomp=unconfined"),
        ("user", errno.EPERM, USER, "sudo tulle lab"),
        ("user", errno.EPERM, Facts(True), "chroot"),
    ],
)
def test_the_message_has_the_command_for(step: str, code: int, facts: Facts, command: str) -> None:
    message = explain({"failed": step, "errno": code, "path": ""}, facts)
    assert command in message
    assert message.startswith("This machine does not let the lab ")


def test_apparmors_switch_is_not_blamed_for_what_it_does_to_users_when_root_is_refused() -> None:
    assert APPARMOR not in explain(
        {"failed": "user", "errno": errno.EPERM}, Facts(True, sysctls={APPARMOR: 1})
    )


def test_the_facts_of_this_machine_can_be_read() -> None:
    facts = read_facts()
    assert set(facts.sysctls) <= {APPARMOR, DEBIAN_SWITCH, *LIMITS}
    assert facts.sysctls[LIMITS[0]] >= 0


@pytest.mark.lab
def test_a_user_who_may_make_no_namespaces_is_told_which_limit_to_raise() -> None:
    # The limit can be set in a user namespace of one's own, and holds for those who live in it.
    code = "import sys; from tulle.lab.launch import launch; launch('refused')"
    script = f'echo 0 > /proc/sys/user/max_user_namespaces && exec {sys.executable} -c "{code}"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "sudo sysctl -w user.max_user_namespaces=10000" in done.stderr
