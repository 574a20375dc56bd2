"""The built-in checks, in the order in which they are run and shown."""

from __future__ import annotations

from tulle.contracts.specs import DoctorCheck
from tulle.hookspecs import hookimpl

_CHECKS = (
    ("tulled", "daemon:tulled", "tulled runs, answers and is ready."),
    ("forwarder", "daemon:forwarder", "The forwarder runs and is of this version."),
    ("store", "store:check", "The store answers, takes a write, and holds a usable network config."),
    ("leases", "leases:check", "No two leases overlap, and leases fit the nodes' records."),
    ("kernel", "kernel:check", "TUN, IPv6, and UDP in batches."),
    ("rights", "rights:check", "tulled has the capabilities that it uses."),
    ("underlay", "underlay:check", "The interface to the other nodes is up, and leads to them."),
    ("forwarding", "sysctls:forwarding", "The kernel forwards packets between pods and tunnel."),
    ("rp-filter", "sysctls:reverse_path", "No strict reverse path filter drops the cluster's packets."),
    ("br-netfilter", "bridge:check", "The firewall sees what pods of one node send each other."),
    ("mtu", "mtu:check", "Underlay, tunnel, subnet.env and the other nodes agree on the MTU."),
    ("port", "port:check", "The backend's UDP port is the forwarder's."),
    ("firewall", "firewall:check", "No firewall chain drops the cluster's packets."),
    ("leftovers", "leftovers:check", "No stale links or routes, and no foreign ones in the way."),
    ("overlays", "overlays:check", "No other overlay network's daemon or links are here."),
    ("clock", "clock:check", "This node's clock agrees with the peers' and the store's."),
    ("disk", "disk:check", "The state directory's file system has room."),
)


@hookimpl
def tulle_doctor_checks() -> list[DoctorCheck]:
    return [
        DoctorCheck(name=name, factory=f"tulle.doctor.{place}", summary=summary)
        for name, place, summary in _CHECKS
    ]
