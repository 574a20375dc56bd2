"""Packets sent to find out: ICMP echo and timestamps by raw sockets. The messages themselves are `tulle.net.echo`'s.

echo     a raw ICMP socket: send requests, hear replies and errors (standard library only)
ping     one target: loss and times
mtu      the longest packet that passes
"""
