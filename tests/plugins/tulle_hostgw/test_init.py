"""What the plugin registers, and that its factory is where it says."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle_hostgw import tulle_backends
from tulle_hostgw.backend import HostGwBackend


def test_the_hook_names_flannels_word_and_a_backend_that_owns_the_way() -> None:
    (backend,) = tulle_backends()
    assert (backend.name, backend.owns_the_way) == ("host-gw", True)
    assert load(backend.factory) is HostGwBackend
