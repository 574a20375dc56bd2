"""tulle: a flat pod network across machines."""

__version__ = "0.1.0"
