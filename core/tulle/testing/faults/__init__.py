"""What goes wrong, on demand. Each fault is one line in a test; docs/testing.md shows them all.

network     a network that loses, delays, reorders, cuts and translates: simulated, deterministic, without I/O
processes   kill, freeze
disk        a disk that fills up or turns read-only under one program
wallclock   another time of day for one process, stepped while it runs
links       links, addresses, MTU, loss, rate, small disks: in the lab or in any namespace that the test owns
wire        a cable between a lab's node and its switch that delays, reorders, duplicates and loses frames

The clock that tests move is `tulle.testing.clock`; connections to a store are broken by `tulle.testing.relay`; a real
etcd is hurt by `tulle.testing.etcd` and `tulle.testing.etcd_cluster`.
"""
