"""A lab's store: a file that all nodes see, or a real etcd on the switch; and the network config in it."""

from __future__ import annotations

import json
import sys

from tulle.lab.errors import LabError
from tulle.lab.init import LAB_DIR
from tulle.lab.inside import Inside, tail
from tulle.lab.plan import SWITCH
from tulle.testing.etcd import FETCH, find_etcd

TULLE = (sys.executable, "-m", "tulle.cli.main")
ETCD_LOG = f"{LAB_DIR}/logs/etcd.log"
ETCD_READY = 20
"""Times that etcd is asked, 0.1 s apart and more."""


def open_store(lab: Inside) -> None:
    """Have a store that holds the network config. Raises LabError."""
    if lab.plan.store == "etcd":
        start_etcd(lab)
    config = json.dumps(lab.plan.network_config())
    lab.run(SWITCH, [*TULLE, "config", "set", "-", *lab.plan.store_args()], input=config)


def start_etcd(lab: Inside) -> None:
    """One member, on the switch's address, its data in the lab's memory. Raises LabError."""
    binaries = find_etcd()
    if binaries is None:
        raise LabError(f"There is no etcd here for --store etcd: {FETCH}, or use --store sqlite.")
    clients = lab.plan.etcd_endpoint()
    options = {
        "name": "lab",
        "data-dir": f"{LAB_DIR}/etcd",
        "listen-client-urls": clients,
        "advertise-client-urls": clients,
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": "lab=http://127.0.0.1:2380",
        "logger": "zap",
        "log-outputs": "stderr",
    }
    command = [str(binaries / "etcd"), *(f"--{name}={value}" for name, value in options.items())]
    lab.detached(SWITCH, command, ETCD_LOG)
    for _ in range(ETCD_READY):
        health = [
            str(binaries / "etcdctl"),
            "--endpoints",
            clients,
            "--dial-timeout=1s",
            "endpoint",
            "health",
        ]
        if lab.run(SWITCH, ["env", "ETCDCTL_API=3", *health], check=False).returncode == 0:
            return
    raise LabError(f"etcd is not ready on {clients}. Its log ends:\n{tail(lab.read_file(SWITCH, ETCD_LOG))}")
