"""The etcd store: leases of a whole cluster in etcd v3, under flannel's keys. This file holds the hooks only."""

from __future__ import annotations

from collections.abc import Sequence

from tulle.contracts.specs import OptionSpec, StoreSpec
from tulle.hookspecs import hookimpl

OPTIONS = (
    OptionSpec(
        name="etcd-endpoints",
        kind="list",
        flannel=True,
        help="etcd's client URLs, the preferred first (with --store etcd alone: http://127.0.0.1:4001 and :2379)",
    ),
    OptionSpec(
        name="etcd-cafile",
        flannel=True,
        help="PEM file of the authorities that etcd's certificate is checked against (default: the system's)",
    ),
    OptionSpec(
        name="etcd-certfile", flannel=True, help="PEM file of the certificate that this node shows to etcd"
    ),
    OptionSpec(name="etcd-keyfile", flannel=True, help="PEM file of that certificate's private key"),
    OptionSpec(name="etcd-username", flannel=True, help="user for etcd's own authentication"),
    OptionSpec(
        name="etcd-password",
        secret=True,
        flannel=True,
        help="its password; on a command line others can read it, --etcd-password-file keeps it from them",
    ),
    OptionSpec(name="etcd-password-file", help="file whose first line is that password"),
)


@hookimpl
def tulle_stores() -> Sequence[StoreSpec]:
    return [
        StoreSpec(
            name="etcd",
            factory="tulle_etcd.store:open_store",
            check="tulle_etcd.settings:parse",
            summary="etcd v3, shared by all nodes of the cluster",
            options=OPTIONS,
            chosen_by=("etcd-endpoints",),
        )
    ]
