"""Which links filter strictly, and that a change is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tulle.kernel.reverse_path import FilterWatch, strict_filters

Set = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path) -> Set:
    def put(name: str, value: str) -> None:
        path = tmp_path / "net/ipv4/conf" / name / "rp_filter"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)

    return put


@pytest.mark.parametrize(
    ("general", "own", "strict"),
    [
        ("0", "0", False),
        ("0", "1", True),
        ("1", "0", True),
        ("2", "1", False),
        ("1", "2", False),
        ("x", "1", True),
    ],
)
def test_the_larger_of_both_values_holds(
    tmp_path: Path, put: Set, general: str, own: str, strict: bool
) -> None:
    put("all", general)
    put("eth0", own + "\n")
    assert strict_filters(["eth0", "gone"], tmp_path) == (("eth0",) if strict else ())


def test_a_change_is_noticed_once(tmp_path: Path, put: Set) -> None:
    async def run() -> list[tuple[str, ...]]:
        heard: list[tuple[str, ...]] = []
        told = asyncio.Event()

        def changed() -> None:
            heard.append(watch.strict)
            told.set()

        watch = FilterWatch(changed, 0.01, tmp_path)
        watch.close()
        try:
            assert watch.look_at(["eth0"]) == ()
            for value in ("1", "2"):
                put("eth0", value)
                async with asyncio.timeout(5):
                    await told.wait()
                told.clear()
            await asyncio.sleep(0.05)
        finally:
            watch.close()
        put("eth0", "1")
        await asyncio.sleep(0.05)
        return heard

    put("all", "0")
    put("eth0", "0")
    assert asyncio.run(run()) == [("eth0",), ()]
