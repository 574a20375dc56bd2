"""Arithmetic on addresses and packets. Pure: no socket, no clock, no randomness.

prefix    addresses, prefixes, and flannel's keys for them
subnets   the subnets of a network: counting and naming them
table     longest-prefix match
packet    IP headers: addresses, ends, transport
checksum  the Internet checksum, whole and by differences
gso       the virtio header; finishing what offloads left undone
coalesce  consecutive TCP segments of a flow as one packet
trains    datagrams of equal size in one message
icmp      errors to the senders of packets that cannot go on
echo      ICMP echo, for probes
"""
