"""What a change of the cluster costs: a lease decoded, a part of the state taken in."""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks import leases, peers
from tulle.contracts.store import KeyValue, LeaseId, Revision
from tulle.forward import messages
from tulle.forward.state import StateCopy
from tulle.lease.codec import decode_lease
from tulle.lease.model import Lease

Benchmark = Any
"""pytest-benchmark's fixture; the package has no types."""

ROUNDS = 200


def test_decode_a_lease(benchmark: Benchmark) -> None:
    (key, value), _ = leases.records(7)
    found = benchmark(decode_lease, KeyValue(key, value, Revision(1), Revision(1), 1, LeaseId(1)))
    assert isinstance(found, Lease)
    assert found.key == "10.0.8.0-24"


def test_take_256_new_peers(benchmark: Benchmark) -> None:
    state = messages.State(
        base=None, generation=1, peers=[peers.peer(number) for number in range(messages.PART_PEERS)]
    )

    def set_up() -> tuple[tuple[StateCopy, messages.State], dict[str, Any]]:
        return (StateCopy(), state), {}

    changes = benchmark.pedantic(StateCopy.take, setup=set_up, rounds=ROUNDS)
    benchmark.extra_info.update(each="peer", count=messages.PART_PEERS)
    assert len(changes.upserts) == messages.PART_PEERS


def test_decode_256_peers(benchmark: Benchmark) -> None:
    state = messages.State(
        base=None, generation=1, peers=[peers.peer(number) for number in range(messages.PART_PEERS)]
    )
    found = benchmark(messages.decode, msgspec.msgpack.encode(state))
    benchmark.extra_info.update(each="peer", count=messages.PART_PEERS)
    assert found == state
