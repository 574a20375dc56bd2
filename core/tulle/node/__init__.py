"""tulled: the daemon of one node.

main        the program: orders, logging, exit status
settings    flags, environment and config file
daemon      the order of things: config, underlay, lease, backend, peers, the end
network     the network config with its plugins' parts, checked at once
state       what the node has come to so far
context     what a backend is given
dataplane   TUN, sockets and forwarder of a user-space backend
components  what else the network config asks for
keeper      keeps links, addresses and routes as they are wanted
identity    who this node is: id, boot id
footprint   record, sysctls and subnet.env as they are to be
subnet_env  the file that CNI plugins read
storewatch  how the store is
rundir      what lies in the run directory
status      what the local API tells of the node
api, http   the local API, and HTTP over a Unix socket or TCP
methods     tulled's own methods of it
health      /healthz, /readyz, /metrics
metrics     what Prometheus reads
client      its client, standard library only
notify      words to systemd
logs        how log lines look; repeats: how often one may be said
down        taking everything away, with or without a running tulled
"""
