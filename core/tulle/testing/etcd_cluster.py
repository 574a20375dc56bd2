"""Several real etcds that are one cluster, with or without TLS and users: who leads, who is down, who is frozen.

with EtcdCluster() as etcd:
    store = open_store({"etcd-endpoints": etcd.endpoints})
    etcd.leader().kill()
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tulle.testing.certificates import Certificates
from tulle.testing.etcd import START_S, EtcdServer, bracketed
from tulle.testing.etcd_binaries import EtcdFailed
from tulle.testing.ports import free_port


class EtcdCluster:
    """See the module. A context manager: all members run when it is entered, and none is left behind. Members may be
    stopped, killed, frozen and started in between; what `leader` and `followers` say is of those that run."""

    def __init__(
        self,
        size: int = 3,
        *,
        host: str = "127.0.0.1",
        certificates: Certificates | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Nothing is started yet. `certificates`: clients are served by https, see EtcdServer."""
        names = [f"member{number}" for number in range(size)]
        ports = {name: (free_port([host]), free_port([host])) for name in names}
        peers = {name: f"http://{bracketed(host)}:{peer}" for name, (_, peer) in ports.items()}
        self.members = [
            EtcdServer(
                name,
                hosts=[host],
                client_port=client,
                peer_port=peer,
                cluster=peers,
                certificates=certificates,
                options=options,
            )
            for name, (client, peer) in ports.items()
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            for member in self.members:
                self._stack.callback(member.discard)
            self.start(self.members)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __getitem__(self, number: int) -> EtcdServer:
        return self.members[number]

    @property
    def endpoints(self) -> list[str]:
        """Client URLs of all members."""
        return [member.endpoint for member in self.members]

    def start(self, members: Iterable[EtcdServer]) -> None:
        """Start these, at the same moment, on the data and ports that they had; returns when each answers. Raises
        EtcdFailed, also where they are too few for a majority."""
        started = list(members)
        for member in started:
            member.start(wait=False)
        for member in started:
            member.wait_ready()

    def leader(self, within_s: float = START_S) -> EtcdServer:
        """The member that leads, as soon as there is one. Raises EtcdFailed."""
        deadline = time.monotonic() + within_s
        while True:
            for member in self._running():
                try:
                    if member.status().leads:
                        return member
                except EtcdFailed:
                    continue  # it goes down or comes up at this moment
            if time.monotonic() > deadline:
                raise EtcdFailed(f"no member of {', '.join(self.endpoints)} leads after {within_s:g} s")
            time.sleep(0.05)

    def followers(self) -> list[EtcdServer]:
        """Those that run and do not lead."""
        leader = self.leader()
        return [member for member in self._running() if member is not leader]

    def compact(self) -> None:
        """Forget all history."""
        self.leader().compact()

    def defragment(self) -> None:
        """One member after the other, as an administrator would."""
        for member in self._running():
            member.defragment()

    def enable_auth(self, root_password: str, users: Iterable[tuple[str, str, str]] = ()) -> None:
        """See `EtcdControl.enable_auth`."""
        self.leader().enable_auth(root_password, users)
        for member in self.members:
            member.root_password = root_password

    def _running(self) -> list[EtcdServer]:
        return [member for member in self.members if member.running]
