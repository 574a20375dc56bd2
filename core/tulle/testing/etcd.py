"""A real etcd for tests, the lab and plugin authors: start it, kill it, freeze it, ask it with etcdctl.

    with EtcdServer() as etcd:
        store = open_store({"etcd-endpoints": etcd.endpoints})

`tulle.testing.etcd_cluster` has several that are one cluster, `etcd_control` what etcdctl can do.

Needs the binaries (`packaging/etcd/fetch.sh` puts them into the checkout, nothing is installed), `setpriv` of
util-linux. The process ends with the thread that started it, however that ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tulle.testing.certificates import Certificates
from tulle.testing.etcd_binaries import FETCH, EtcdFailed, find_etcd
from tulle.testing.etcd_control import EtcdControl
from tulle.testing.faults.processes import resume, suspend
from tulle.testing.ports import free_port

__all__ = ["FETCH", "EtcdFailed", "EtcdServer", "find_etcd"]

START_S = 20.0
STOP_S = 10.0
READY = "serving client traffic"
"""What etcd 3.4 to 3.6 log when their ports are bound and they have a leader."""
PORT_ATTEMPTS = 10


class EtcdServer(EtcdControl):
    """One member. A context manager: started on entry, killed and removed on exit.

    `hosts`: addresses to listen on for clients, all with one port; the peer port is on the first. Ports of 0 are chosen
    free ones. `cluster`: peer URL by member name, for a cluster of several (then choose the ports; `start(wait=False)`
    on each, `wait_ready` on one). `directory`: where data and log lie; by default a temporary one that goes at the end.
    `certificates`: serve https, and let in only who shows a certificate of the same authority.
    """

    def __init__(
        self,
        name: str = "one",
        *,
        hosts: Sequence[str] = ("127.0.0.1",),
        client_port: int = 0,
        peer_port: int = 0,
        cluster: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
        directory: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        binaries = find_etcd()
        if binaries is None:
            raise EtcdFailed(f"there is no etcd here: {FETCH}")
        super().__init__(binaries, certificates)
        self.name = name
        self._hosts = hosts
        self._cluster = cluster
        self._options = tuple(options)
        self._ports = (client_port, peer_port)
        self.client_port, self.peer_port = client_port, peer_port
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.gettempdir(), f"tulle-etcd-{secrets.token_hex(8)}")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EtcdServer:
        try:
            self.start()
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.discard()

    @property
    def endpoints(self) -> list[str]:
        """Client URLs, one for each host."""
        scheme = "https" if self.certificates else "http"
        return [f"{scheme}://{bracketed(host)}:{self.client_port}" for host in self._hosts]

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def peer_url(self) -> str:
        return f"http://{bracketed(self._hosts[0])}:{self.peer_port}"

    @property
    def pid(self) -> int:
        """Raises EtcdFailed where it does not run."""
        if self._process is None:
            raise EtcdFailed(f"etcd {self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Also where it is frozen."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.directory / "etcd.log"

    def start(self, *, wait: bool = True) -> None:
        """Start it, on the data and ports of the last time if there was one. With `wait`, returns when it answers.
        Raises EtcdFailed."""
        first = not (self.client_port and self.peer_port)
        for attempt in range(PORT_ATTEMPTS):
            if first:
                self._choose_ports()
            self._spawn()
            try:
                if wait:
                    self.wait_ready()
                return
            except EtcdFailed:
                self.kill()
                # Somebody took a port between the choice and etcd's bind.
                if (
                    not first
                    or attempt + 1 == PORT_ATTEMPTS
                    or "address already in use" not in self.log_tail()
                ):
                    raise

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Returns when it answers. Raises EtcdFailed."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._process is None or self._process.poll() is not None:
                raise self._failed("has ended")
            # Its own word first: on a port that somebody else took before it, somebody else would answer.
            if (
                READY in self.log.read_text(errors="replace")
                and self._etcdctl("endpoint", "health").returncode == 0
            ):
                return
            if time.monotonic() > deadline:
                raise self._failed(f"is not ready after {timeout_s:g} s")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it as an administrator would; it closes its connections. Data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9. Data stays."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it, and start it on the same data and ports."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Kill it and forget all data: at the next start it is a new cluster on the same ports."""
        self.kill()
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        self.root_password = None

    def freeze(self) -> None:
        """Its connections stay open and nothing answers (SIGSTOP). Returns when all its threads stand still."""
        suspend(self.pid)

    def thaw(self) -> None:
        resume(self.pid)

    def discard(self) -> None:
        """Kill it and remove what it wrote, except to a directory that was given."""
        self.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def log_tail(self, lines: int = 12) -> str:
        """The end of what it logged, and the first line, which has the reason where etcd goes on with its usage."""
        if not self.log.exists():
            return ""
        logged = self.log.read_text(errors="replace").splitlines()
        return "\n".join(logged if len(logged) <= lines else [logged[0], "...", *logged[-lines:]])

    def _choose_ports(self) -> None:
        client, peer = self._ports
        self.client_port = client or free_port(self._hosts)
        self.peer_port = peer or free_port(self._hosts[:1])

    def _spawn(self) -> None:
        if self._process is not None:
            raise EtcdFailed(f"etcd {self.name} runs already, as process {self.pid}")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath},  # ETCD_* in ours would be options
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        clients = ",".join(self.endpoints)
        members = self._cluster or {self.name: self.peer_url}
        command = {
            "name": self.name,
            "data-dir": str(self.directory / "data"),
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": ",".join(f"{name}={url}" for name, url in members.items()),
            "initial-cluster-state": "new",
            "logger": "zap",
            "log-outputs": "stderr",
            "bcrypt-cost": "4",  # the least: a log-in costs a millisecond instead of fifty
        }
        if self.certificates:
            command |= {
                "cert-file": str(self.certificates.server),
                "key-file": str(self.certificates.server_key),
                "trusted-ca-file": str(self.certificates.ca),
                "client-cert-auth": "true",
            }
        return [
            str(self._binaries / "etcd"),
            *(f"--{key}={value}" for key, value in command.items()),
            *self._options,
        ]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _failed(self, what: str) -> EtcdFailed:
        return EtcdFailed(f"etcd {self.name} at {self.endpoint} {what}; its log ends:\n{self.log_tail()}")


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
