"""Timestamps of initiations: TAI64N, 12 bytes (https://cr.yp.to/libtai/tai64.html), that only ever grow.

A responder takes an initiation only with a later timestamp than the last (paper section 5.1). The bytes of TAI64N
compare as the times do.
"""

from __future__ import annotations

from struct import Struct

from tulle_wireguard.constants import TIMESTAMP_STEP_NS

_TAI64N = Struct(">QI")
_TAI64_EPOCH = 2**62 + 10
"""Seconds of 1970 on the label; TAI was 10 s ahead then. Leap seconds are not told apart."""
_NS = 10**9
_STEP_MASK = ~(TIMESTAMP_STEP_NS - 1)


def encode(unix_ns: int) -> bytes:
    """A time since 1970, in nanoseconds, with the nanoseconds of its second rounded down to the step."""
    seconds, nanoseconds = divmod(unix_ns, _NS)
    return _TAI64N.pack(_TAI64_EPOCH + seconds, nanoseconds & _STEP_MASK)


class Stamps:
    """The timestamps of one sender. They go on growing when the wall clock is set back, one step each.

    Without this, a node whose clock was set back could not start a handshake until the clock has caught up.
    """

    def __init__(self, not_before_ns: int = 0) -> None:
        self.last_ns = not_before_ns
        """Of the last stamp. Whoever keeps it over a restart survives a clock that was set back between."""

    def next(self, unix_ns: int) -> bytes:
        """The stamp for now. Later than all before."""
        if encode(unix_ns) <= encode(self.last_ns):
            unix_ns = self.last_ns + TIMESTAMP_STEP_NS
            if encode(unix_ns) <= encode(self.last_ns):  # the last step of a second is a short one
                unix_ns += TIMESTAMP_STEP_NS
        self.last_ns = unix_ns
        return encode(unix_ns)
