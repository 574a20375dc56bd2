"""The plugin offers what its hooks say."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle_vxlan import tulle_backends
from tulle_vxlan.backend import VxlanBackend
from tulle_vxlan.options import VxlanOptions


def test_it_is_a_backend_that_needs_no_encapsulation() -> None:
    (spec,) = tulle_backends()
    assert (spec.name, spec.requires, spec.options) == ("vxlan", (), VxlanOptions)
    assert load(spec.factory) is VxlanBackend
