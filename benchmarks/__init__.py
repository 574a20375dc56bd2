"""`python -m benchmarks [NAME...]`: how fast tulle is, as ratios to something measured beside it in the same run.

dataplane   what does it cost that packets go through user space? (kernel routes and kernel VXLAN beside it)
wires       what does VXLAN cost, laid by hand, by tulle in the kernel, and by tulle in user space?
kernel_peers  what do 5,000 peers cost where the kernel carries their packets?
engine      how much of the python engine's time is Python? (its system calls alone beside it)
leases      how long until a new node knows 20,000 others? (a bare listing beside it)
peers       how long until a forwarder knows 20,000 peers? (decoding alone beside it)
start       how soon after a start or a death do packets flow, and what memory does it take?
handover    how long do packets wait while one forwarder takes over from another? (a time without one beside it)
lookup      what does it cost to find a destination's peer as the cluster grows? (one prefix beside it)
micro       what does one call of each hot function cost? (pytest-benchmark)

Each is a file with one question, a `QUESTION` and `measure(effort)`; `figures` holds what a figure is, `machine` on
what it was measured. Machines are noisy: what is compared is measured in turns (A B C A B C ...), shown as medians with
the spread, and the ratio is the median of the ratios within each turn. Wall times hold for that machine and hour alone.
"""
