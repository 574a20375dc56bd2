"""Desired kernel state: what is wanted is compared with what is there, and the difference is changed.

state     pure: wanted and seen links, addresses, routes; the difference between them
messages  our structs as rtnetlink messages and back
netlink   reads what is there, applies the difference
monitor   wakes when somebody changed links, addresses or routes
tun       TUN descriptors
udp       the UDP sockets that the forwarder is given
holders   who holds a port or a TUN, for messages
sysctl    forwarding, and putting it back
underlay  pure: which interface leads to the other nodes

What is ours is marked (routes by protocol number, links by alias); nothing else is ever removed.
Importing `netlink` costs about 150 ms (pyroute2); the other modules are light.
"""
