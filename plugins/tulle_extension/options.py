"""What may stand beside `"Type": "extension"` in the network config."""

from __future__ import annotations

import msgspec

DEFAULT_TIMEOUT_S = 30
LONGEST_TIMEOUT_S = 3600


class ExtensionOptions(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """Commands are text for `sh -c`; "" runs nothing. Checked when the network config is read."""

    pre_startup_command: str = ""
    """Before the lease; its standard output becomes our BackendData."""
    post_startup_command: str = ""
    """When there is a lease."""
    subnet_add_command: str = ""
    """For each peer."""
    subnet_remove_command: str = ""
    """For each peer that is gone or has changed."""
    shutdown_command: str = ""
    """When the node is taken down (`tulle down`)."""
    command_timeout: int = DEFAULT_TIMEOUT_S
    """Seconds that one run may take."""
    mtu: int = msgspec.field(default=0, name="MTU")
    """What pods may use; 0: the underlay's."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            if "\0" in str(getattr(self, field.name)):
                raise ValueError(f"{field.encode_name}: holds a zero byte, which no command can; take it out")
        if not 1 <= self.command_timeout <= LONGEST_TIMEOUT_S:
            raise ValueError(
                f"CommandTimeout: {self.command_timeout} is no usable time; give 1 to {LONGEST_TIMEOUT_S} "
                f"seconds, or leave it out for {DEFAULT_TIMEOUT_S}"
            )
        if self.mtu != 0 and not 576 <= self.mtu <= 65535:
            raise ValueError(f"MTU: {self.mtu} is no MTU for pods; give 576 to 65535, or leave it out")
