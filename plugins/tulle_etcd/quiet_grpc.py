"""gRPC, imported so that it writes nothing to stderr by itself: what fails is in the errors that are raised.

GRPC_VERBOSITY is read once, when gRPC's core is loaded; a value that the user set is left alone.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

__all__ = ["grpc"]
