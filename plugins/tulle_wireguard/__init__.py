"""WireGuard, complete and sans-I/O. Not yet a backend: see README.md for what is there and what is not."""
