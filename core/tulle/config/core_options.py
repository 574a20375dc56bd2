"""Core's own flags. A name that flannel has too is a promise to flannel's users; FLANNELD_... sets it as well."""

from __future__ import annotations

from tulle.contracts.specs import OptionSpec

CONFIG_FILE = "/etc/tulle/tulled.toml"
"""Read where it exists and --config-file names no other."""

FLANNELS_ENDPOINTS = "http://127.0.0.1:4001,http://127.0.0.1:2379"
"""What flannel takes where no --etcd-endpoints are given; tulle takes a store of this machine then."""

SINGLE_MACHINE = (
    f"single-machine store, since no endpoints are given; flannel would have used {FLANNELS_ENDPOINTS}"
)

CORE_OPTIONS = (
    OptionSpec(
        name="etcd-prefix",
        default="/coreos.com/network",
        flannel=True,
        help="where the cluster's keys lie in the store, whichever store it is",
    ),
    OptionSpec(
        name="iface",
        kind="list",
        flannel=True,
        help="interface, or address of one, that leads to the other nodes; the first that fits is taken",
    ),
    OptionSpec(
        name="iface-regex",
        kind="texts",
        flannel=True,
        help="where no --iface fits: the first interface with an address, else with a name, in which this is found",
    ),
    OptionSpec(
        name="iface-can-reach",
        kind="list",
        flannel=True,
        help="where neither fits: the interface by which the kernel would reach this address (nothing is sent)",
    ),
    OptionSpec(name="public-ip", flannel=True, help="IPv4 address at which other nodes reach this one"),
    OptionSpec(name="public-ipv6", flannel=True, help="IPv6 address at which other nodes reach this one"),
    OptionSpec(
        name="subnet-file",
        default="/run/flannel/subnet.env",
        flannel=True,
        help="file that tells CNI plugins and Docker this node's subnet and MTU",
    ),
    OptionSpec(
        name="subnet-lease-renew-margin",
        kind="duration",
        default=60,
        flannel=True,
        help="the lease's time left never falls below this; 1 to 1439 minutes",
    ),
    OptionSpec(
        name="healthz-ip",
        default="0.0.0.0",
        flannel=True,
        help="address at which /healthz, /readyz and /metrics are served",
    ),
    OptionSpec(name="healthz-port", kind="int", default=0, flannel=True, help="its port; 0: not served"),
    OptionSpec(
        name="v",
        kind="int",
        default=0,
        flannel=True,
        help="log level: 0 says what changes, 1 what is done, 3 what libraries say too",
    ),
    OptionSpec(name="log-format", default="text", help="text, or json: one object a line"),
    OptionSpec(
        name="config-file",
        help=f"file in TOML with flags' names as keys (default {CONFIG_FILE}, where it exists); empty: none",
    ),
    OptionSpec(
        name="store", help="where the cluster's truth lies, by name; default: by the flags that are given"
    ),
    OptionSpec(name="node-name", help="this node's name, unique in the cluster; default: the host name"),
    OptionSpec(name="state-dir", default="/var/lib/tulle", help="directory for what outlives a reboot"),
    OptionSpec(name="run-dir", default="/run/tulle", help="directory for sockets"),
    OptionSpec(name="engine", default="auto", help="what moves packets: auto, python, native or a plugin's"),
)
