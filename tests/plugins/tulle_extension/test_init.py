"""What the plugin registers, and that its factory is where it says."""

from __future__ import annotations

from tulle.contracts.specs import load
from tulle_extension import tulle_backends
from tulle_extension.backend import ExtensionBackend
from tulle_extension.options import ExtensionOptions


def test_the_hook_names_a_backend_that_leaves_the_way_to_the_commands() -> None:
    (backend,) = tulle_backends()
    assert (backend.name, backend.owns_the_way) == ("extension", False)
    assert backend.options is ExtensionOptions
    assert load(backend.factory) is ExtensionBackend
