"""The contracts between core and plugins: read this folder to write a plugin.

store        where the cluster's truth lies (etcd, sqlite, memory)
backend      how packets reach a peer: links, routes, what a lease advertises
encapsulation  what a datagram looks like on the wire (sans-I/O, runs in the forwarder)
engine       what moves packets between TUN and UDP (runs in the forwarder)
component    anything else that turns cluster state into kernel state (proxy, DNS, policy)
doctor       a check of `tulle doctor`: what it is told and what it returns
subnet       where a node's subnet comes from
specs        what the hooks of `tulle.hookspecs` return

Nothing here does I/O and nothing here imports a plugin.
"""
