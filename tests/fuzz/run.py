"""`make fuzz`: each target for some seconds, led by what it covers (atheris, a libFuzzer for Python).

    tests/fuzz/run.py                      all targets, 60 s each
    tests/fuzz/run.py --seconds 600 lease  one, longer
    tests/fuzz/run.py lease FILE           an input that broke it, once more

What was found to be worth keeping lies in .cache/fuzz/TARGET, from run to run; an input that breaks a target lies there
as crash-*. Where there is no atheris for this Python and none can be had, hypothesis takes its place and it is said.
Ends with status 1 where a target broke.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "fuzz"
SITE = CACHE / f"python{sys.version_info.major}.{sys.version_info.minor}"
"""Where atheris is put when it is not installed: beside the venv, whose packages are those of the project."""
ATHERIS = "atheris>=3.0,<4"
INSTALL_S = 300
SECONDS = 60
LONGEST_INPUT_BYTES = 4096
ONE_INPUT_S = 10
"""An input that takes longer than this has broken its target, too."""
MEMORY_MB = 1024
END_S = 60
"""For a target's process to load and to end, beside its time."""
EXAMPLES = 500
"""Of hypothesis between two looks at the clock."""

sys.path[:0] = [str(HERE.parent), str(SITE)]


def main() -> int:
    given = parse()
    if given.worker:
        return worker(given.names[0], given.seconds, given.worker)
    known = importlib.import_module("fuzz.found").names()
    files = [name for name in given.names if name not in known]
    wanted = [name for name in given.names if name in known] or ([] if files else known)
    if files and (len(wanted) != 1 or not all(Path(one).is_file() for one in files)):
        print(f"fuzz: there is no target {', '.join(files)}; these are: {', '.join(known)}", file=sys.stderr)
        return 2
    if files:
        return again(wanted[0], files)
    engine = "atheris" if have_atheris() else "hypothesis"
    if engine == "hypothesis":
        print(f"fuzz: {ATHERIS} cannot be had here: hypothesis takes its place, blind to what is covered")
    broken = [name for name in wanted if not fuzz(name, given.seconds, engine)]
    print(
        f"fuzz: {len(wanted)} targets, {given.seconds} s each, by {engine}; broken: {', '.join(broken) or 'none'}"
    )
    return 1 if broken else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz every parser that reads what strangers wrote.")
    parser.add_argument("names", nargs="*", metavar="TARGET", help="all without one")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--worker", choices=("atheris", "hypothesis"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.seconds < 1:
        parser.error(f"--seconds {given.seconds}: give at least 1")
    return given


def have_atheris() -> bool:
    """Installs it into the cache where it is not there."""
    if importable():
        return True
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(SITE), ATHERIS]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode:
        print(f"fuzz: pip: {(done.stderr.strip() or 'failed').splitlines()[-1]}", file=sys.stderr)
    return done.returncode == 0 and importable()


def importable() -> bool:
    probe = f"import sys; sys.path.insert(0, {str(SITE)!r}); import atheris"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def fuzz(name: str, seconds: int, engine: str) -> bool:
    """One target in a process of its own, its output in a file of the cache. Whether it held."""
    place = CACHE / name
    (place / "corpus").mkdir(parents=True, exist_ok=True)
    log = place / "log"
    command = [sys.executable, __file__, name, "--seconds", str(seconds), "--worker", engine]
    started = time.monotonic()
    with log.open("w") as out:
        try:
            limit = seconds + ONE_INPUT_S + END_S
            held = subprocess.run(command, stdout=out, stderr=out, timeout=limit, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            held = False
    text = log.read_text(errors="replace").strip().splitlines() or ["it wrote nothing"]
    done = next((line for line in reversed(text) if line.startswith(("Done ", "fuzz-done "))), "")
    inputs = f"{len(list((place / 'corpus').iterdir()))} inputs kept"
    print(
        f"fuzz: {name}: {'held' if held else 'BROKEN'}, {time.monotonic() - started:.0f} s; {done}; {inputs}",
        flush=True,
    )
    if not held:
        print("\n".join(f"    {line}" for line in text[-30:]))
        crashes = [path for kind in ("crash-*", "timeout-*", "oom-*") for path in place.glob(kind)]
        for one in sorted(crashes, key=lambda path: path.stat().st_mtime)[-1:]:
            print(f"    again with: {sys.executable} {Path(__file__)} {name} {one}")
    return held


def worker(name: str, seconds: int, engine: str) -> int:
    """In the target's own process."""
    if engine == "atheris":
        return by_atheris(name, seconds)
    return by_hypothesis(name, seconds)


def by_atheris(name: str, seconds: int) -> int:
    """Does not come back: libFuzzer ends the process, with a status other than 0 where an input broke the target."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(
        include=["tulle", "tulle_udp", "tulle_wireguard", "msgspec", "h11", "ipaddress"]
    ):
        found = importlib.import_module("fuzz.found").load(name)
    place = CACHE / name
    for seed in found.seeds:
        (place / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT_BYTES}",
        f"-timeout={ONE_INPUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={place}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(place / "corpus")], found.run)
    atheris.Fuzz()
    return 0


def by_hypothesis(name: str, seconds: int) -> int:
    """Over and over, from another beginning each time."""
    hypothesis = importlib.import_module("hypothesis")
    mutations = importlib.import_module("fuzz.mutations")
    found = importlib.import_module("fuzz.found").load(name)
    end, runs = time.monotonic() + seconds, 0
    last = b""

    def one(data: bytes) -> None:
        nonlocal last
        last = data
        found.run(data)

    quiet = {"deadline": None, "database": None, "suppress_health_check": list(hypothesis.HealthCheck)}
    while time.monotonic() < end:
        test = hypothesis.given(mutations.inputs(found.seeds))(one)
        try:
            hypothesis.seed(time.time_ns())(hypothesis.settings(max_examples=EXAMPLES, **quiet)(test))()
        except BaseException:
            crash = CACHE / name / f"crash-{hashlib.sha1(last).hexdigest()}"
            crash.write_bytes(last)
            traceback.print_exc()
            return 1
        runs += EXAMPLES
    found.close()
    print(f"fuzz-done {runs} runs in {seconds} s")
    return 0


def again(name: str, files: list[str]) -> int:
    """Raises what the target raises."""
    found = importlib.import_module("fuzz.found").load(name)
    for one in files:
        found.run(Path(one).read_bytes())
        print(f"fuzz: {name}: holds on {one}")
    found.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
