"""Servers that tests talk to on the loopback: buckets of two kinds, an atomic store, a web that misbehaves."""
