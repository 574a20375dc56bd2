"""`tulle trace` and `tulle ping`: the way of a packet from this node, and packets really sent along it.

target    which address is meant by an address, a node's name or NODE/POD   (pure)
way       the steps of the way, each with the rule that decides it          (pure)
look      reads what these steps need: routes, links, the lease's time
probe     sends echo requests along it and watches counters
verdict   where they stopped                                                (pure)

What is known of the node (`contracts.doctor.DoctorContext`) comes from `tulle.doctor.survey`, as for the doctor.
"""
