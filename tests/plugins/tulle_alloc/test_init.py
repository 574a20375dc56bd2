"""What the plugin registers, and that its factory is where it says."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle_alloc import tulle_backends
from tulle_alloc.backend import AllocBackend


def test_the_hook_names_a_backend_that_leaves_the_way_to_others() -> None:
    (backend,) = tulle_backends()
    assert (backend.name, backend.owns_the_way) == ("alloc", False)
    assert load(backend.factory) is AllocBackend
