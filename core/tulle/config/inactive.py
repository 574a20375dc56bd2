"""flannel's flags for parts that tulle does not have yet: accepted and checked by kind, without effect.

A flanneld command line must start tulled, so these cannot be unknown. A plugin that brings the part declares an option
of the same name, and that takes the place of the one here.
"""

from __future__ import annotations

from tulle.contracts.specs import OptionSpec

KUBE_SUBNET_MGR = "kube-subnet-mgr"
"""True is refused while it stands here: it names a store, and another one would be a surprise."""

_MASQUERADING = "masquerading"
_FORWARD_RULES = "firewall rules"
_KUBERNETES = "Kubernetes subnet manager"
_FINE_LOGGING = "log level for single files"

INACTIVE_OPTIONS = (
    OptionSpec(
        name="ip-masq",
        kind="bool",
        flannel=True,
        inactive=_MASQUERADING,
        help="masquerade what pods send out of the cluster's network",
    ),
    OptionSpec(
        name="ip-masq-fully-random-disable",
        kind="bool",
        flannel=True,
        inactive=_MASQUERADING,
        help="do not choose source ports at random when masquerading",
    ),
    OptionSpec(
        name="iptables-resync",
        kind="int",
        default=5,
        flannel=True,
        inactive=_FORWARD_RULES,
        help="seconds between checks of the firewall rules",
    ),
    OptionSpec(
        name="iptables-forward-rules",
        kind="bool",
        default=True,
        flannel=True,
        inactive=_FORWARD_RULES,
        help="accept forwarded packets from and to the cluster's network",
    ),
    OptionSpec(
        name="ip-blackhole-route",
        kind="bool",
        flannel=True,
        inactive="blackhole route for this node's subnet",
        help="drop packets to addresses of this node's subnet that no pod has",
    ),
    OptionSpec(
        name=KUBE_SUBNET_MGR,
        kind="bool",
        flannel=True,
        inactive=_KUBERNETES,
        help="take subnets from the Kubernetes API; true is refused",
    ),
    OptionSpec(
        name="kube-api-url", flannel=True, inactive=_KUBERNETES, help="URL of the Kubernetes API server"
    ),
    OptionSpec(
        name="kubeconfig-file",
        flannel=True,
        inactive=_KUBERNETES,
        help="file that says how to reach that server",
    ),
    OptionSpec(
        name="kube-annotation-prefix",
        default="flannel.alpha.coreos.com",
        flannel=True,
        inactive=_KUBERNETES,
        help="what the names of node annotations start with",
    ),
    OptionSpec(
        name="net-config-path",
        default="/etc/kube-flannel/net-conf.json",
        flannel=True,
        inactive=_KUBERNETES,
        help="file with the network config",
    ),
    OptionSpec(
        name="set-node-network-unavailable",
        kind="bool",
        default=True,
        flannel=True,
        inactive=_KUBERNETES,
        help="set the node condition NetworkUnavailable when ready",
    ),
    OptionSpec(name="vmodule", flannel=True, inactive=_FINE_LOGGING, help="log level by source file"),
    OptionSpec(
        name="log_backtrace_at", flannel=True, inactive=_FINE_LOGGING, help="log a stack trace at file:line"
    ),
)
