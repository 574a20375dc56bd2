"""A member of etcd, asked and ordered by etcdctl: revision, history, space, users, who leads."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tulle.testing.certificates import Certificates
from tulle.testing.etcd_binaries import EtcdFailed

ETCDCTL_S = 20.0


class MemberStatus(NamedTuple):
    """What a member says of itself."""

    member: int
    leader: int
    """The id of the member that it takes for the leader; 0: it knows none."""
    revision: int
    database_bytes: int

    @property
    def leads(self) -> bool:
        return self.member == self.leader


class EtcdControl(ABC):
    """See the module. What fails raises EtcdFailed."""

    def __init__(self, binaries: Path, certificates: Certificates | None) -> None:
        self._binaries = binaries
        self.certificates = certificates
        self.root_password: str | None = None
        """Of the user root, whom etcdctl is from `enable_auth` on; in a cluster each member's helper has to know."""

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Its client URL."""

    def etcdctl(self, *arguments: str, input: bytes | None = None) -> str:
        """What `etcdctl ARGUMENTS` writes to stdout. Raises EtcdFailed."""
        done = self._etcdctl(*arguments, input=input)
        if done.returncode:
            raise EtcdFailed(f"etcdctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def revision(self) -> int:
        """The store's current revision."""
        header = self.etcdctl("get", "--write-out=fields", "no-such-key").splitlines()
        return next(int(line.partition(":")[2]) for line in header if '"Revision"' in line)

    def metrics(self) -> str:
        """What it tells Prometheus. Without TLS only. Raises OSError."""
        with urllib.request.urlopen(f"{self.endpoint}/metrics", timeout=ETCDCTL_S) as answer:
            text: bytes = answer.read()
        return text.decode()

    def status(self) -> MemberStatus:
        """Asked of this member alone."""
        (answer,) = json.loads(self.etcdctl("endpoint", "status", "--write-out=json"))
        status, header = answer["Status"], answer["Status"]["header"]
        return MemberStatus(
            header["member_id"], status.get("leader", 0), header.get("revision", 0), status["dbSize"]
        )

    def compact(self, revision: int | None = None) -> None:
        """Forget the history before `revision` (default: all of it)."""
        self.etcdctl("compaction", "--physical", str(revision or self.revision()))

    def defragment(self) -> None:
        """Give the space of what was compacted back; the member answers nobody meanwhile."""
        self.etcdctl("defrag")

    def enable_auth(self, root_password: str, users: Iterable[tuple[str, str, str]] = ()) -> None:
        """Turn authentication on. `users`: name, password, and the prefix that each may read and write. From here on
        `etcdctl` is root."""
        self.etcdctl("user", "add", f"root:{root_password}")
        self.etcdctl("user", "grant-role", "root", "root")
        for name, password, prefix in users:
            self.etcdctl("user", "add", f"{name}:{password}")
            self.etcdctl("role", "add", name)
            self.etcdctl("role", "grant-permission", "--prefix", name, "readwrite", prefix)
            self.etcdctl("user", "grant-role", name, name)
        self.etcdctl("auth", "enable")
        self.root_password = root_password

    def _etcdctl(self, *arguments: str, input: bytes | None = None) -> subprocess.CompletedProcess[str]:
        flags = ["--endpoints", self.endpoint, "--dial-timeout=2s", "--command-timeout=10s"]
        if self.certificates:
            tls = self.certificates
            flags += ["--cacert", str(tls.ca), "--cert", str(tls.client), "--key", str(tls.client_key)]
        if self.root_password is not None:
            flags += ["--user", f"root:{self.root_password}"]
        return subprocess.run(
            [str(self._binaries / "etcdctl"), *flags, *arguments],
            input=None if input is None else input.decode(),
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=ETCDCTL_S,
            env={"PATH": os.defpath, "ETCDCTL_API": "3"},
            check=False,
        )
