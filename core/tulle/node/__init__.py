"""tulled: the daemon of one node.

main        the program: flags, logging, exit status
daemon      the order of things: config, underlay, lease, backend, peers, the end
network     the network config with its plugins' parts, checked at once
context     what a backend is given
dataplane   TUN, sockets and forwarder of a user-space backend
components  what else the network config asks for
keeper      keeps links, addresses and routes as they are wanted
identity    who this node is: id, boot id
subnet_env  the file that CNI plugins read
rundir      what lies in the run directory
status      what the local API tells of the node
api, http   the local API: its methods, and HTTP over a Unix socket
client      its client, standard library only
notify      words to systemd
logs        how log lines look
down        taking everything away, with or without a running tulled
"""
