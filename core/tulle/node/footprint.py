"""What tulled keeps on this node outside of links and routes: its record, sysctls, subnet.env.

The record is written before each change, so that a crash in between leaves nothing that `tulle down` does not know.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from tulle.config.daemon import DaemonConfig
from tulle.contracts.backend import Family, Problem
from tulle.files import write_atomically
from tulle.kernel import sysctl
from tulle.net.prefix import Prefix
from tulle.node import subnet_env
from tulle.node.rundir import Record, RunDir

log = logging.getLogger("tulle.node")


class Footprint:
    """Each method makes things as they are to be, and does nothing where they are."""

    def __init__(self, config: DaemonConfig, run_dir: RunDir, node_id: str) -> None:
        """Keeps what an earlier run remembered. Writes nothing yet."""
        old = run_dir.record()
        self._run_dir = run_dir
        self._subnet_file = config.subnet_file
        self._ip_masq = bool(config.options.get("ip-masq"))
        self.subnet_file_problem: Problem | None = None
        """What keeps subnet.env from being there."""
        self._record = Record(
            node=config.node_name,
            node_id=node_id,
            state_dir=str(config.state_dir),
            store=config.store,
            store_prefix=config.prefix,
            store_settings={
                name: value
                for name, value in config.store_settings.items()
                if value is not None and name not in config.secrets
            },
            subnet_file=str(config.subnet_file),
            subnet_file_text=old.subnet_file_text if old is not None else "",
            sysctls=old.sysctls if old is not None else {},
        )

    def write_record(self) -> None:
        self._run_dir.write_record(self._record)

    def set_sysctls(self, families: Sequence[Family], uplink: str) -> None:
        """Forwarding, as far as these families need it."""
        applied = sysctl.apply(sysctl.forwarding(families, uplink), self._record.sysctls)
        for line in applied.changed:
            log.info("sysctl-set %s", line)
        for problem in applied.problems:
            log.warning("sysctl-problem %s", problem.message)
        if applied.remembered != self._record.sysctls:
            self._record.sysctls = dict(applied.remembered)
            self.write_record()

    def write_subnet_file(self, networks: Sequence[Prefix], subnets: Sequence[Prefix], mtu: int) -> bool:
        """Only where it differs: CNI plugins read it at any time. Returns whether it was written."""
        text = subnet_env.render(networks, subnets, mtu, ip_masq=self._ip_masq)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if self._subnet_file.read_text() == text == self._record.subnet_file_text:
                self.subnet_file_problem = None
                return False
        self._record.subnet_file_text = text
        self.write_record()
        try:
            write_atomically(self._subnet_file, text.encode(), mode=0o644)
        except OSError as error:
            message = (
                f"cannot be written ({error.strerror}), and CNI plugins need it; make its directory writable, or "
                "name another file with --subnet-file"
            )
            problem = Problem("subnet-file", str(self._subnet_file), message)
            if problem != self.subnet_file_problem:
                log.error(
                    "subnet-file-failed file=%s error=%s (tried again)", self._subnet_file, error.strerror
                )
            self.subnet_file_problem = problem
            return False
        self.subnet_file_problem = None
        return True
