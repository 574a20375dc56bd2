"""What stands beside `"Type": "tagged"` in the network config. A node's lease tells the others the same."""

from __future__ import annotations

from typing import Annotated

import msgspec

DEFAULT_PORT = 8286


class TaggedOptions(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """Checked before anything starts; a value that does not fit is an error that names the key."""

    cluster: Annotated[str, msgspec.Meta(min_length=1, max_length=63)] = "default"
    """The cluster's name. Nodes talk only with nodes of the same name."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = DEFAULT_PORT
    """UDP port at which this node listens."""
