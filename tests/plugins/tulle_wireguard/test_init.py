"""What the plugin registers, and that its factories are where it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import tulle_wireguard
from tulle.contracts.specs import load
from tulle_wireguard import tulle_api_methods, tulle_backends, tulle_commands, tulle_encapsulations
from tulle_wireguard.backend import WireguardBackend
from tulle_wireguard.encapsulation import WireGuard
from tulle_wireguard.options import WireguardOptions


def test_the_hooks_name_the_backend_and_the_encapsulation_that_it_needs() -> None:
    (backend,), (encapsulation,) = tulle_backends(), tulle_encapsulations()
    assert (backend.name, backend.aliases, backend.requires) == (
        *("wireguard", ("encrypted-udp",), ("wireguard",)),
    )
    assert backend.options is WireguardOptions
    assert load(backend.factory) is WireguardBackend
    assert load(encapsulation.factory) is WireGuard
    assert backend.requires == (encapsulation.name,)


def test_its_word_and_its_method_are_of_its_name() -> None:
    assert [one.name for one in tulle_commands()] == ["wireguard"]
    assert {(one.path.partition("/")[0], one.backend) for one in tulle_api_methods()} == {
        ("wireguard", "wireguard")
    }


def test_listing_plugins_imports_no_cryptography() -> None:
    program = (
        "import sys, tulle_wireguard as one\n"
        "one.tulle_backends(), one.tulle_encapsulations(), one.tulle_api_methods(), one.tulle_commands()\n"
        "print([name for name in ('cryptography', 'nacl', 'tulle_wireguard.crypto') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_each_file_stands_in_the_readme_and_each_that_stands_there_is_one() -> None:
    folder = Path(tulle_wireguard.__file__).parent
    lines = (folder / "README.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+\.py)`", cell)]
    assert len(named) == len(set(named))
    assert set(named) == {path.name for path in folder.glob("*.py")} - {"__init__.py"}
