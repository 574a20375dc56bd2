"""Every flag of flanneld: its command line with only the program's name changed starts tulled, and so does its
environment. What each flag is for is looked at; those of parts that do not exist yet are said to be inactive, once.

A node of the lab is a machine on which nothing of tulle's runs yet; tulled gets flannel's flags and no others.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry
from tulle.lab.stores import start_etcd
from tulle.node.client import Client, NotRunning
from tulle.testing.certificates import make_certificates

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.xdist_group("lab-flags")]

READY_S = 20.0
TULLED = [sys.executable, "-m", "tulle.node.main"]
FILES = "/run/tulle-lab"
"""The lab's own tmpfs: the switch and the node see it at this path."""
NODE = "n2"
PLAIN = "http://192.0.2.254:2379"
TLS = "https://192.0.2.254:2479"
AUTH = "http://192.0.2.254:2579"
PASSWORD = "correct horse"
CONFIG = {"Network": "10.42.0.0/16", "Backend": {"Type": "udp"}}
DUAL = {"EnableIPv6": True, "IPv6Network": "fd42::/48", **CONFIG}
OTHER_PREFIX = "/elsewhere/network"
DUAL_PREFIX = "/dual/network"
HEALTH = "http://127.0.0.1:8471/healthz"


@pytest.fixture(scope="module")
def lab(
    registry: Registry,
    etcd_here: Path,
    tmp_path_factory: pytest.TempPathFactory,
    hands: Callable[[Lab], Any],
) -> Iterator[Lab]:
    """A node without tulled, and three etcds: plain, with certificates, with passwords."""
    with Lab(nodes=2, pods=0, backend="none", store="etcd", family="dual", registry=registry) as lab:
        hands(lab).kernel(NODE, ("link", "del", {"link": "cni0"}))
        start_etcd(lab)
        put_configs(lab, etcd_here)
        start_tls(lab, etcd_here, tmp_path_factory.mktemp("certificates"))
        start_auth(lab, etcd_here)
        yield lab


def put_configs(lab: Lab, etcd: Path) -> None:
    for prefix, config in (
        ("/coreos.com/network", CONFIG),
        (OTHER_PREFIX, {**CONFIG, "Network": "10.99.0.0/16"}),
        (DUAL_PREFIX, DUAL),
    ):
        etcdctl(lab, etcd, PLAIN, "put", f"{prefix}/config", json.dumps(config))


def etcdctl(lab: Lab, etcd: Path, url: str, *words: str) -> str:
    command = ["env", "ETCDCTL_API=3", str(etcd / "etcdctl"), f"--endpoints={url}", *words]
    return lab.run("switch", command).stdout


def start_one(lab: Lab, etcd: Path, name: str, url: str, *options: str) -> None:
    port = int(url.rpartition(":")[2]) + 1
    command = [
        str(etcd / "etcd"),
        f"--name={name}",
        f"--data-dir={FILES}/{name}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls=http://127.0.0.1:{port}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{port}",
        f"--initial-cluster={name}=http://127.0.0.1:{port}",
        "--logger=zap",
        "--bcrypt-cost=4",
        *options,
    ]
    lab.detached("switch", command, f"{FILES}/logs/{name}.log")


def until(works: Callable[[], object]) -> None:
    """Ask again until it does not raise."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            works()
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def start_tls(lab: Lab, etcd: Path, folder: Path) -> None:
    made = make_certificates(folder, ("192.0.2.254",))
    files = {"ca": made.ca, "server": made.server, "server.key": made.server_key}
    files |= {"client": made.client, "client.key": made.client_key}
    for name, path in files.items():
        lab.write_file("switch", f"{FILES}/{name}", path.read_text())
    server = (f"--cert-file={FILES}/server", f"--key-file={FILES}/server.key")
    start_one(lab, etcd, "tls", TLS, *server, f"--trusted-ca-file={FILES}/ca", "--client-cert-auth=true")
    client = (f"--cacert={FILES}/ca", f"--cert={FILES}/client", f"--key={FILES}/client.key")
    config = ("put", "/coreos.com/network/config", json.dumps(CONFIG))
    until(lambda: etcdctl(lab, etcd, TLS, *client, *config))


def start_auth(lab: Lab, etcd: Path) -> None:
    start_one(lab, etcd, "auth", AUTH)
    until(lambda: etcdctl(lab, etcd, AUTH, "put", "/coreos.com/network/config", json.dumps(CONFIG)))
    etcdctl(lab, etcd, AUTH, "user", "add", f"root:{PASSWORD}")
    etcdctl(lab, etcd, AUTH, "user", "grant-role", "root", "root")
    etcdctl(lab, etcd, AUTH, "auth", "enable")


class Tulled:
    """One that runs in the node."""

    def __init__(self, lab: Lab, process: subprocess.Popen[str], log: Path) -> None:
        self.lab = lab
        self._process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = Client(self.root() / "run/tulle").get("status")
        return found

    def root(self) -> Path:
        """The node's file system, seen from outside by way of tulled."""
        own = [one.pid for one in self.lab.residents() if "tulle.node.main" in one.argv]
        if not own:
            raise NotRunning(f"tulled has ended:\n{self.log()}")
        return Path(f"/proc/{own[0]}/root")

    def wait_ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log()
            try:
                if (status := self.status())["ready"]:
                    return status
            except NotRunning:
                pass
            time.sleep(0.05)
        pytest.fail(f"not ready within {READY_S:g} s:\n{self.log()}")


@contextmanager
def tulled(
    lab: Lab, directory: Path, words: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Tulled]:
    """It is ended at the end, and what it made is taken away."""
    log = directory / "log"
    variables = [f"{name}={value}" for name, value in environment.items()]
    with log.open("w") as stream:
        process = lab.popen(NODE, ["env", *variables, *TULLED, *words], stderr=stream, text=True)
    try:
        yield Tulled(lab, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(READY_S)


def run(lab: Lab, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = [f"{name}={value}" for name, value in environment.items()]
    return lab.run(NODE, ["env", *variables, *TULLED, *words], check=False, timeout=READY_S)


def both_forms(flag: str, value: str, form: str) -> tuple[list[str], dict[str, str]]:
    if form == "environment":
        return [], {"FLANNELD_" + flag.upper().replace("-", "_"): value}
    return [f"-{flag}={value}" if form == "one dash" else f"--{flag}={value}"], {}


Look = Callable[[Tulled, dict[str, Any]], object]


def public_is(address: str) -> Look:
    return lambda tulled, status: address in status["underlay"]["public"]


def because(words: str) -> Look:
    return lambda tulled, status: words in status["underlay"]["because"]


def subnet_file_is(path: str) -> Look:
    return lambda tulled, status: (
        f"FLANNEL_SUBNET={status['subnets'][0].replace('.0/', '.1/')}"
        in (tulled.root() / path.lstrip("/")).read_text()
    )


def detailed(tulled: Tulled, status: dict[str, Any]) -> bool:
    return " DEBUG " in tulled.log()


def healthy(tulled: Tulled, status: dict[str, Any]) -> bool:
    program = f"import urllib.request as r; print(r.urlopen('{HEALTH}', timeout=5).status)"
    return tulled.lab.run(NODE, [sys.executable, "-c", program]).stdout == "200\n"


def in_network(start: str) -> Look:
    return lambda tulled, status: status["subnets"][0].startswith(start)


def printed(text: str, *command: str) -> Look:
    """By a program in the node."""
    return lambda tulled, status: text in tulled.lab.run(NODE, list(command)).stdout


def masquerade_says(key: str, value: object) -> Look:
    return lambda tulled, status: status["components"]["masquerade"][key] == value


ENDPOINTS = f"--etcd-endpoints={PLAIN}"
TLS_FLAGS = (
    f"--etcd-endpoints={TLS}",
    f"--etcd-cafile={FILES}/ca",
    f"--etcd-certfile={FILES}/client",
    f"--etcd-keyfile={FILES}/client.key",
)
AUTH_FLAGS = (f"--etcd-endpoints={AUTH}", "--etcd-username=root", f"--etcd-password={PASSWORD}")


def at(url: str) -> Look:
    return lambda tulled, status: (status["store"]["name"], status["store"]["endpoint"]) == ("etcd", url)


WORKING: list[tuple[str, str, Sequence[str], Look]] = [
    # flag, value, the rest of the command line, what it must have led to
    ("etcd-endpoints", PLAIN, (), at(PLAIN)),
    ("etcd-endpoints", f"http://192.0.2.254:1,{PLAIN}", (), at(PLAIN)),
    ("etcd-prefix", OTHER_PREFIX, (ENDPOINTS,), in_network("10.99.")),
    ("etcd-cafile", f"{FILES}/ca", TLS_FLAGS, at(TLS)),
    ("etcd-certfile", f"{FILES}/client", TLS_FLAGS, at(TLS)),
    ("etcd-keyfile", f"{FILES}/client.key", TLS_FLAGS, at(TLS)),
    ("etcd-username", "root", AUTH_FLAGS, at(AUTH)),
    ("etcd-password", PASSWORD, AUTH_FLAGS, at(AUTH)),
    ("iface", "eth0", (ENDPOINTS,), because("--iface eth0")),
    ("iface", "192.0.2.2", (ENDPOINTS,), because("--iface 192.0.2.2 is an address of eth0")),
    ("iface-regex", r"192\.0\.2\.\d+", (ENDPOINTS,), because("matches 192.0.2.2 of eth0")),
    ("iface-regex", "^eth", (ENDPOINTS,), because("matches the name eth0")),
    ("iface-can-reach", "192.0.2.254", (ENDPOINTS,), because("192.0.2.254 is reached by eth0")),
    ("public-ip", "198.51.100.7", (ENDPOINTS,), public_is("198.51.100.7")),
    (
        "public-ipv6",
        "2001:db8:ff::7",
        (ENDPOINTS, f"--etcd-prefix={DUAL_PREFIX}"),
        public_is("2001:db8:ff::7"),
    ),
    ("subnet-file", "/run/elsewhere/subnet.env", (ENDPOINTS,), subnet_file_is("/run/elsewhere/subnet.env")),
    ("subnet-lease-renew-margin", "30", (ENDPOINTS,), subnet_file_is("/run/flannel/subnet.env")),
    ("healthz-ip", "127.0.0.1", (ENDPOINTS, "--healthz-port=8471"), healthy),
    ("healthz-port", "8471", (ENDPOINTS,), healthy),
    ("v", "1", (ENDPOINTS,), detailed),
    ("ip-masq", "true", (ENDPOINTS,), printed("masquerade fully-random", "nft", "list", "ruleset")),
    (
        "ip-masq-fully-random-disable",
        "true",
        (ENDPOINTS, "--ip-masq"),
        printed("masquerade comment", "nft", "list", "ruleset"),
    ),
    ("iptables-resync", "10", (ENDPOINTS, "--ip-masq"), masquerade_says("resync_s", 10)),
    ("iptables-forward-rules", "false", (ENDPOINTS,), masquerade_says("forward_rules", False)),
    ("ip-blackhole-route", "true", (ENDPOINTS,), printed("10.", "ip", "route", "show", "type", "blackhole")),
]

INACTIVE = [
    ("kube-subnet-mgr", "false"),
    ("kube-api-url", "https://192.0.2.250:6443"),
    ("kubeconfig-file", "/etc/kubernetes/kubelet.conf"),
    ("kube-annotation-prefix", "flannel.alpha.coreos.com"),
    ("net-config-path", "/etc/kube-flannel/net-conf.json"),
    ("set-node-network-unavailable", "true"),
]

FLANNELS = {flag for flag, *_ in WORKING} | {flag for flag, _ in INACTIVE} | {"version"}


def named(value: object) -> str:
    return str(value) if isinstance(value, str) else ""


@pytest.mark.parametrize("form", ["flag", "environment"])
@pytest.mark.parametrize(("flag", "value", "rest", "look"), WORKING, ids=named)
def test_a_flag_of_flanneld_does_what_it_does_there(
    lab: Lab, tmp_path: Path, flag: str, value: str, rest: Sequence[str], look: Look, form: str
) -> None:
    others = [word for word in rest if not word.startswith(f"--{flag}=")]
    words, environment = both_forms(flag, value, form)
    with tulled(lab, tmp_path, [*others, *words], environment) as running:
        status = running.wait_ready()
        assert look(running, status), json.dumps(status, indent=1)
        assert "flag-inactive" not in running.log()


@pytest.mark.parametrize("form", ["one dash", "environment"])
@pytest.mark.parametrize(("flag", "value"), INACTIVE)
def test_a_flag_of_a_part_that_is_not_there_is_said_to_be_inactive_once(
    lab: Lab, tmp_path: Path, flag: str, value: str, form: str
) -> None:
    words, environment = both_forms(flag, value, form)
    with tulled(lab, tmp_path, [ENDPOINTS, *words], environment) as running:
        running.wait_ready()
        said = [line for line in running.log().splitlines() if "flag-inactive" in line]
    assert len(said) == 1
    assert f"--{flag} " in said[0]
    source = f"environment FLANNELD_{flag.upper().replace('-', '_')}" if environment else "flag"
    assert f"({source})" in said[0]


@pytest.mark.parametrize(("flag", "look"), [("ip-masq", None), ("iptables-forward-rules", None)])
def test_a_bare_switch_takes_no_word_that_follows(lab: Lab, tmp_path: Path, flag: str, look: None) -> None:
    with tulled(lab, tmp_path, [f"--{flag}", "--etcd-endpoints", PLAIN, "-iface", "eth0"], {}) as running:
        assert because("--iface eth0")(running, running.wait_ready())


@pytest.mark.parametrize("form", ["flag", "one dash", "environment"])
def test_the_kubernetes_subnet_manager_is_refused_with_status_2(lab: Lab, form: str) -> None:
    words, environment = both_forms("kube-subnet-mgr", "true", form)
    done = run(lab, ENDPOINTS, *words, **environment)
    assert done.returncode == 2
    assert ("FLANNELD_KUBE_SUBNET_MGR" if environment else "--kube-subnet-mgr") in done.stderr
    assert "--etcd-endpoints" in done.stderr


def test_the_version_is_printed_and_nothing_is_started(lab: Lab) -> None:
    for words in (["--version"], ["-version"], [ENDPOINTS, "-version=true"]):
        done = run(lab, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()


def test_a_whole_command_line_of_a_flanneld_unit_starts_tulled(lab: Lab, tmp_path: Path) -> None:
    """As an operator has it: several at once, in each of Go's ways to write them."""
    words = ["-etcd-endpoints", TLS, f"-etcd-cafile={FILES}/ca", "--etcd-certfile", f"{FILES}/client"]
    words += [f"--etcd-keyfile={FILES}/client.key", "-etcd-prefix=/coreos.com/network", "--ip-masq"]
    words += ["-iface=nothere", "-iface=eth0", "-v=0", "--iptables-resync=5", "-healthz-port", "8471"]
    with tulled(lab, tmp_path, words, {"FLANNELD_PUBLIC_IP": "198.51.100.8"}) as running:
        status = running.wait_ready()
        assert public_is("198.51.100.8")(running, status)
        assert because("--iface eth0")(running, status)
        assert healthy(running, status)


def test_all_of_flannels_flags_are_tried_here() -> None:
    """Those of `tulled --help` that flannel has, too."""
    from tulle.config.core_options import CORE_OPTIONS
    from tulle.config.inactive import INACTIVE_OPTIONS
    from tulle.plugins import load_plugins

    of_plugins = [option for _, option in load_plugins().options()]
    known = {one.name for one in (*CORE_OPTIONS, *INACTIVE_OPTIONS, *of_plugins) if one.flannel}
    logging_only = {"vmodule", "log_backtrace_at"}  # klog's, no word of flannel's own list
    assert known - logging_only == FLANNELS - {"version"}


def test_a_wrong_password_is_said_at_once(lab: Lab, tmp_path: Path) -> None:
    words = [AUTH_FLAGS[0], AUTH_FLAGS[1], "--etcd-password=wrong"]
    with tulled(lab, tmp_path, words, {}) as running:
        deadline = time.monotonic() + READY_S
        while "store-denied" not in running.log() and "cannot-go-on" not in running.log():
            assert time.monotonic() < deadline, running.log()
            time.sleep(0.1)
        assert PASSWORD not in running.log()
        assert "=wrong" not in running.log()
