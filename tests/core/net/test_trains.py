"""What the kernel says beside a train that it has received."""

from __future__ import annotations

import socket
import struct

from tulle.net.trains import UDP_GRO, segment_size


def test_the_size_of_a_received_train_is_read_from_its_control_message() -> None:
    train = (socket.SOL_UDP, UDP_GRO, struct.pack("=i", 1400))
    assert segment_size([(0, 8, b"other"), train]) == 1400
    assert segment_size([(0, 8, b"other")]) == 0
    assert segment_size([(socket.SOL_UDP, UDP_GRO, b"")]) == 0
