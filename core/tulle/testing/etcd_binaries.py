"""Where etcd and etcdctl are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

FETCH = (
    "run packaging/etcd/fetch.sh in the checkout, or name the folder of etcd and etcdctl in TULLE_ETCD_BIN"
)

_CHECKOUT = Path(__file__).resolve().parents[3]


class EtcdFailed(Exception):
    """etcd or etcdctl did not do what it was told; the text ends with what it wrote."""


def find_etcd() -> Path | None:
    """The folder that holds etcd and etcdctl: $TULLE_ETCD_BIN, the checkout's .cache, or one in PATH."""
    named = os.environ.get("TULLE_ETCD_BIN")
    if named:
        return Path(named) if _complete(Path(named)) else None
    places = [_CHECKOUT / ".cache" / "etcd" / "bin", *map(Path, os.get_exec_path())]
    return next(filter(_complete, places), None)


def _complete(folder: Path) -> bool:
    return all(os.access(folder / binary, os.X_OK) for binary in ("etcd", "etcdctl"))
