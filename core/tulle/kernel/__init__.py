"""Desired kernel state: what is wanted is compared with what is there, and the difference is changed.

state     pure: wanted and seen links, addresses, routes, neighbours, FDB; the difference between them
actions   pure: each change that can be part of the difference, and its line for people
saying    pure: what was done and what the kernel refused, for people
messages  links and addresses as rtnetlink messages and back
rtwire    pure: the same for what comes by the thousand: routes, neighbours, FDB entries
rtsocket  sends those in batches and reads dumps of them
netlink   reads what is there, applies the difference
ethtool   checksum offload of a link
watch     wakes on a netlink socket; monitor: when somebody changed links, addresses or routes
nft       nftables commands in this process, by libnftables; nft_table: pure, a table as wanted and as listed;
          nft_priorities: where our chains stand; nft_watch: wakes when somebody changed the ruleset
conntrack drops tracked connections of subnets that have gone
tun       TUN descriptors
udp       the UDP sockets that the forwarder is given
holders   who holds a port or a TUN, for messages
sysctl    forwarding, and putting it back
underlay  pure: which interface leads to the other nodes

What is ours is marked (routes by protocol number, links by alias) or lies on a VXLAN device of ours; nothing else is
ever removed. What can be wanted is in `tulle.contracts.kernel`.
Importing `netlink` costs about 150 ms (pyroute2); the other modules are light.
"""
