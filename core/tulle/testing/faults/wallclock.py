"""Another time of day for one program, stepped while it runs, by libfaketime; the machine's clock is left alone.

    clock = WallClock(tmp_path)
    process = Popen(clock.command(["tulled", ...]))
    clock.step(-86400)

What must not step (CLOCK_MONOTONIC, CLOCK_BOOTTIME) goes on as it is, so a program that measures time by the wall
clock is found out. Of tulle's own parts, those that look at the wall clock take it as an argument (tulle_sqlite's
`clocks`); this is for whole programs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[4]
CACHE = _CHECKOUT / ".cache" / "faketime"
LIBRARY = "libfaketimeMT.so.1"
"""The one for programs with threads."""
FETCH_S = 60.0


class NoFaketime(Exception):
    """libfaketime is not here and cannot be had."""


def find_faketime() -> Path | None:
    """The library: $TULLE_FAKETIME, the checkout's .cache, or where Debian's package libfaketime has it."""
    named = os.environ.get("TULLE_FAKETIME")
    places = [Path(named)] if named else [CACHE / LIBRARY, *Path("/usr/lib").glob(f"*/faketime/{LIBRARY}")]
    return next((place for place in places if place.is_file()), None)


def fetch_faketime() -> Path:
    """The same, after downloading Debian's package into the checkout's .cache where it is not here; nothing is
    installed. Raises NoFaketime."""
    found = find_faketime()
    if found is not None:
        return found
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoFaketime("install libfaketime, or name its library in TULLE_FAKETIME")
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)  # apt's own user writes here where root runs this
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", "libfaketime"]
        got = subprocess.run(download, cwd=work, capture_output=True, text=True, timeout=FETCH_S)
        packages = [str(path) for path in Path(work).glob("*.deb")]
        if got.returncode or not packages:
            raise NoFaketime(
                f"apt could not download libfaketime ({got.stderr.strip()}): run 'apt-get update'"
            )
        subprocess.run(["dpkg-deb", "-x", *packages, f"{work}/unpacked"], check=True, timeout=FETCH_S)
        (library,) = Path(work).glob(f"unpacked/usr/lib/*/faketime/{LIBRARY}")
        CACHE.mkdir(parents=True, exist_ok=True)
        # A new name and a rename: others may look for it at this moment.
        half = CACHE / f".{LIBRARY}.{os.getpid()}"
        shutil.copy(library, half)
        half.rename(CACHE / LIBRARY)
    return CACHE / LIBRARY


class WallClock:
    """See the module. `directory` holds the file that the library reads; the programs must be able to read it.
    Raises NoFaketime."""

    def __init__(self, directory: Path) -> None:
        self._library = fetch_faketime()
        self._file = directory / "wallclock"
        self.offset_s = 0.0
        self.step(0.0)

    def step(self, seconds: float) -> None:
        """Set it forward, or back, by so much more."""
        self.offset_s += seconds
        half = self._file.with_suffix(".new")
        half.write_text(f"{self.offset_s:+f}\n")
        half.rename(self._file)  # never half a line

    def command(self, argv: Sequence[str]) -> list[str]:
        """Runs `argv` by this clock."""
        settings = {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # a step is seen at once
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # times of files stay what they are
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items()), *argv]
