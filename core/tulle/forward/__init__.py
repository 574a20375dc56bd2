"""The forwarder: the unprivileged process that moves packets, and the messages tulled steers it with.

messages       what goes over the control socket
state          the forwarder's copy of the desired state
python_engine  the reference engine: batches of packets between TUN and UDP
peering        who is behind which inner address, and from whom a packet may come
paths          what a path id stands for
ancillary      what the kernel tells with a datagram, and what it is told
udp_batch      many datagrams in few system calls
main           the process: load, drop rights, serve tulled, run the engine
"""
