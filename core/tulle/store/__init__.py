"""What stands on a store, whichever it is: a copy that stays up to date, and records that stay kept.

clock      the time that daemons live by
retry      how long to wait after a failure, and how often to say so
items      what a mirror holds and hands out (pure)
mirror     a copy of a part of the store, kept up to date: list, watch, resume
records    what we own in the store, and whose the present keys are (pure)
mvcc       history, transactions and listings as etcd means them, for stores of our own (pure)
publisher  keeps what we own in the store: transactions, keepalive, compare before put

The contract itself is `tulle.contracts.store`.
"""
