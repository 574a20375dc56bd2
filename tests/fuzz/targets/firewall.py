"""The doctor's readers of nft and iptables: names, comments and whole rules are other programs'."""

from __future__ import annotations

import json
from typing import Literal

from tulle.doctor import iptables, nft
from tulle.doctor.ruleset import Chain, outcome

_RULE = {
    "family": "inet",
    "table": "t",
    "chain": "fwd",
    "expr": [
        {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["tulle*", "cni0"]}}},
        {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
        {
            "match": {
                "op": "!=",
                "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                "right": {"prefix": {"addr": "10.0.0.0", "len": 8}},
            }
        },
        {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 8285}},
        {"counter": {"packets": 0, "bytes": 0}},
        {"jump": {"target": "other"}},
    ],
}
_HEAD = {"family": "inet", "table": "t", "name": "fwd", "type": "filter", "hook": "forward", "policy": "drop"}
_LISTED = {"nftables": [{"metainfo": {}}, {"chain": _HEAD}, {"rule": _RULE}]}
_JUMPS = {"chain": {"family": "inet", "table": "t", "name": "other"}}
_ENDS = {
    "rule": {**_RULE, "chain": "other", "expr": [{"goto": {"target": "fwd"}}, {"reject": {"type": "icmp"}}]}
}
SEEDS = [
    json.dumps(_LISTED).encode(),
    json.dumps({"nftables": [*_LISTED["nftables"], _JUMPS, _ENDS]}).encode(),
    b'{"nftables": [{"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"vmap": {}}, null, 7, "x"]}}]}',
    b"*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n"
    b"-A FORWARD -j DOCKER\n-A DOCKER -g FORWARD\n"
    b'-A FORWARD ! -s 10.0.0.0/8 -i cni+ -p udp -m udp --dport 8000:9000 -m comment --comment "a b" -j ACCEPT\n'
    b"-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -m limit --limit 5/sec -j REJECT --reject-with x\nCOMMIT\n",
    b"*filter\n:FORWARD\n-A \n-A FORWARD -j\n-A FORWARD '\n:\n",
    b'{"nftables": ' + b"[" * 50,
]
PACKETS = [
    {"family": "4", "saddr": "10.1.0.2", "daddr": "10.2.0.2", "iif": "cni0", "oif": "tulle0", "proto": "tcp"},
    {"family": "6", "saddr": "fd00::1", "daddr": "fd01::2", "iif": "tulle0", "state": "new"},
    {"family": "4", "proto": "udp", "dport": "8285", "state": "new"},
    {},
]
TOOLS: tuple[Literal["iptables", "ip6tables"], ...] = ("iptables", "ip6tables")


def target(data: bytes) -> None:
    text = data.decode(errors="replace")
    for tool in TOOLS:
        _judge(iptables.parse(text, tool))
    try:
        chains = nft.parse(text)
    except ValueError:
        return
    _judge(chains)


def _judge(chains: list[Chain]) -> None:
    by_name = {(one.family, one.table, one.name): one for one in chains}
    for chain in chains:
        for packet in PACKETS:
            found = outcome(by_name, chain, packet)
            assert found.verdict in ("accept", "drop")
            assert found.because
