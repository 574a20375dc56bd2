"""Leases: which node has which pod subnet, in flannel's schema.

model      leases, member and alive records (pure)
codec      their bytes, readable by flannel (pure)
claims     which member record owns which lease (pure)
allocate   which subnet a node takes: the plan (pure)
table      leases and members into the backend's peers (pure)
identity   holding the node's name: one live tulled a name
acquire    carrying a plan out, again and again until there is a subnet
drift      what a change of the network config means for a node that runs (pure)
manager    the subnet manager that tulled uses by default
errors     how a node loses its name or its subnet
registered, offline, reservation   the same store as commands see it, whether or not a tulled runs
"""
