"""Arithmetic on addresses and packets. Pure: no socket, no clock, no randomness."""
