"""Component `masquerade`: pods reach the world under their node's address, and no firewall chain cuts them off."""

from __future__ import annotations

from tulle.contracts.specs import ComponentSpec, DoctorCheck, OptionSpec
from tulle.hookspecs import hookimpl


@hookimpl
def tulle_components() -> list[ComponentSpec]:
    return [
        ComponentSpec(
            name="masquerade",
            factory="tulle_masquerade.component:Masquerade",
            always=True,
            leftovers="tulle_masquerade.component:take_away",
            summary="Masquerading, and accept rules in firewall chains that drop; by flannel's flags.",
        )
    ]


@hookimpl
def tulle_options() -> list[OptionSpec]:
    return [
        OptionSpec(
            name="ip-masq",
            kind="bool",
            flannel=True,
            help="masquerade what pods send out of the cluster's network",
        ),
        OptionSpec(
            name="ip-masq-fully-random-disable",
            kind="bool",
            flannel=True,
            help="do not choose source ports at random when masquerading",
        ),
        OptionSpec(
            name="iptables-resync",
            kind="int",
            default=5,
            flannel=True,
            help="seconds between looks at the firewall rules, beside those that a change of them causes",
        ),
        OptionSpec(
            name="iptables-forward-rules",
            kind="bool",
            default=True,
            flannel=True,
            help="accept forwarded packets from and to the cluster's network, where a chain would drop them",
        ),
        OptionSpec(
            name="ip-blackhole-route",
            kind="bool",
            flannel=True,
            help="drop packets to this node's subnet while no interface has it (its bridge is gone)",
        ),
    ]


@hookimpl
def tulle_doctor_checks() -> list[DoctorCheck]:
    return [
        DoctorCheck(
            name="masquerade",
            factory="tulle_masquerade.doctor:check",
            summary="Masquerade rules are in place, and flannel has left none behind.",
        )
    ]
