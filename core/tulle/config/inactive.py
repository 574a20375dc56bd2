"""flannel's flags for parts that tulle does not have yet: accepted and checked by kind, without effect.

A flanneld command line must start tulled, so these cannot be unknown. A plugin that brings the part declares an option
of the same name, and that takes the place of the one here.
"""

from __future__ import annotations

from tulle.contracts.specs import OptionSpec

KUBE_SUBNET_MGR = "kube-subnet-mgr"
"""True is refused while it stands here: it names a store, and another one would be a surprise."""

_KUBERNETES = "Kubernetes subnet manager"
_FINE_LOGGING = "log level for single files"

INACTIVE_OPTIONS = (
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
