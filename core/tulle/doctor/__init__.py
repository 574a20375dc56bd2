"""`tulle doctor`: what is wrong with this node, why it matters, and the command that mends it.

plugin    the built-in checks, registered like anybody's
survey    what is known of the node before the first check (`contracts.doctor.DoctorContext`)
run       runs the checks, each by itself: one that crashes or hangs is a finding
reading   how checks look at files, sysctls and programs

The checks, by topic; in each a pure `judge` (or several) and one function that reads for it:
daemon (tulled, forwarder)  kernel  rights  underlay  sysctls (forwarding, rp_filter)  mtu  port
firewall (with ruleset, nft, iptables)  clock  store  leases  leftovers  overlays  disk
"""
