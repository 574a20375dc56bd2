"""What does it cost to find the peer of a destination as the cluster grows?

The longest-prefix table with 1 to 100,000 prefixes, asked for addresses all over them: prefixes of one length, as a
cluster has them, of both families, and IPv4 prefixes of nine lengths. Beside them the dictionary of answers that the
engine asks first, and what it costs to put one more prefix in and to take it out again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.figures import Effort, Figure, Result, Turns
from tulle.net.prefix import Prefix, prefix_from_int
from tulle.net.table import PrefixTable

QUESTION = "What does it cost to find the peer of a destination as the cluster grows?"

COUNTS, QUICK_COUNTS = (1, 100, 10_000, 100_000), (1, 100, 1_000)
QUESTIONS, QUICK_QUESTIONS = 10_000, 500
"""Look-ups in one turn: more than the processor's caches remember of a large table."""
ONE_LENGTH, SIX, NINE_LENGTHS = "look-up, IPv4 /24", "look-up, IPv6 /64", "look-up, IPv4 /20 to /28"
ANSWERED, CHANGED = "answered before", "one prefix in and out"
FIRST_4, FIRST_6 = 10 << 24, 0xFD42 << 112
SEED = 1


class Cluster(NamedTuple):
    """Prefixes, number by number, in a table, and addresses that lie in some of them with that one's number."""

    table: PrefixTable[int]
    questions: Sequence[tuple[bytes, int]]


def measure(effort: Effort) -> Result:
    turns = Turns()
    counts: dict[str, int] = {}
    sizes = QUICK_COUNTS if effort.quick else COUNTS
    questions = effort.of(QUESTIONS, QUICK_QUESTIONS)
    for name, prefix_of in SHAPES.items():
        clusters = {
            f"{size} prefix" + "es" * (size > 1): cluster_of(size, questions, prefix_of) for size in sizes
        }
        for _ in range(effort.turns):
            for subject, cluster in clusters.items():
                turns.add(name, subject, look_up_ns(cluster))
                if name == ONE_LENGTH:
                    turns.add(ANSWERED, subject, answered_ns(cluster))
                    turns.add(CHANGED, subject, changed_ns(cluster, prefix_of(sizes[-1]), questions))
        for subject, cluster in clusters.items():
            counts[f"{name}: {subject}"] = right_answers(cluster)
    unit = {CHANGED: "ns a change"}
    figures: list[Figure] = [
        turns.figure(name, unit.get(name, "ns a look-up"), "lower", baseline=f"{sizes[0]} prefix")
        for name in (*SHAPES, ANSWERED, CHANGED)
    ]
    return Result(figures, counts, ["the loop around the look-ups is in each figure"])


def four(number: int) -> Prefix:
    return prefix_from_int(4, FIRST_4 + (number << 8), 24)


def six(number: int) -> Prefix:
    return prefix_from_int(6, FIRST_6 + (number << 64), 64)


def mixed(number: int) -> Prefix:
    """Each at the start of a /20 of its own, so that none holds another."""
    return prefix_from_int(4, FIRST_4 + (number << 12), 20 + number % 9)


SHAPES: dict[str, Callable[[int], Prefix]] = {ONE_LENGTH: four, SIX: six, NINE_LENGTHS: mixed}


def cluster_of(size: int, questions: int, prefix_of: Callable[[int], Prefix]) -> Cluster:
    table: PrefixTable[int] = PrefixTable()
    prefixes = [prefix_of(number) for number in range(size)]
    for number, prefix in enumerate(prefixes):
        table.insert(prefix, number)
    rng = random.Random(SEED)
    asked = []
    for _ in range(questions):
        number = rng.randrange(size)
        prefix = prefixes[number]
        address = int(prefix.network_address) + rng.randrange(min(prefix.num_addresses, 256))
        asked.append((address.to_bytes(prefix.max_prefixlen // 8), number))
    return Cluster(table, asked)


def right_answers(cluster: Cluster) -> int:
    return sum(cluster.table.lookup(address) == number for address, number in cluster.questions)


def look_up_ns(cluster: Cluster) -> float:
    lookup = cluster.table.lookup
    start = time.perf_counter_ns()
    for address, _ in cluster.questions:
        lookup(address)
    return (time.perf_counter_ns() - start) / len(cluster.questions)


def answered_ns(cluster: Cluster) -> float:
    """As `Peering.known` answers."""
    known = dict(cluster.questions)
    addresses = [bytes(bytearray(address)) for address, _ in cluster.questions]  # none of the keys themselves
    start = time.perf_counter_ns()
    for address in addresses:
        known.get(address)
    return (time.perf_counter_ns() - start) / len(addresses)


def changed_ns(cluster: Cluster, prefix: Prefix, times: int) -> float:
    table = cluster.table
    start = time.perf_counter_ns()
    for _ in range(times):
        table.insert(prefix, 0)
        table.remove(prefix)
    return (time.perf_counter_ns() - start) / times / 2
