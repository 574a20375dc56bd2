"""A privileged daemon and its unprivileged worker: spawn, pass descriptors, sandbox, adopt, replace.

frames      length-prefixed messages on a stream, with descriptors beside them (sans-I/O)
messages    what any worker and its daemon say to each other
sandbox     how a worker gives up its rights: user and capabilities here, files in landlock, calls in syscalls
serve       the worker's end: one control socket, one master
session     the daemon's connection to one worker
handover    one worker takes over from another
supervise   the daemon's end: find the running worker or start one, replace it, notice its death

The forwarder is the first user of this. A worker outlives its daemon: the daemon finds it again by its socket.
"""
