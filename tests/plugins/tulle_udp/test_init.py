"""What the plugin registers, and that its factories are where it says."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle_udp import tulle_backends, tulle_encapsulations
from tulle_udp.backend import UdpBackend
from tulle_udp.encapsulation import PlainUdp
from tulle_udp.options import UdpOptions


def test_the_hooks_name_the_backend_and_the_encapsulation_that_it_needs() -> None:
    (backend,), (encapsulation,) = tulle_backends(), tulle_encapsulations()
    assert load(backend.factory) is UdpBackend
    assert load(encapsulation.factory) is PlainUdp
    assert backend.requires == (encapsulation.name,)
    assert backend.options is UdpOptions
