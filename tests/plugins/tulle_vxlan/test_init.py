"""vxlan is offered as a backend and, for its user-space mode, as an encapsulation."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle_vxlan import tulle_backends, tulle_encapsulations
from tulle_vxlan.backend import VxlanBackend
from tulle_vxlan.encapsulation import VxlanWire
from tulle_vxlan.options import VxlanOptions


def test_it_is_a_backend_and_an_encapsulation() -> None:
    (backend,), (wire,) = tulle_backends(), tulle_encapsulations()
    assert (backend.name, backend.requires, backend.options) == ("vxlan", (wire.name,), VxlanOptions)
    assert load(backend.factory) is VxlanBackend
    assert load(wire.factory) is VxlanWire
