"""The simulated network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle.testing.faults.network import Address, Datagram, Network, Weather

A, B, C = (Address(host, 8285) for host in ("10.0.0.1", "10.0.0.2", "198.51.100.3"))
STORM = Weather(delay_s=0.02, jitter_s=0.01, loss=0.2, duplicate=0.1, reorder=0.1, behind_s=0.05)


def everything(network: Network) -> list[Datagram]:
    """What still arrives, in order."""
    arrived = []
    while (moment := network.next_arrival()) is not None:
        arrived += network.deliver(moment)
    return arrived


def stream(network: Network, count: int, source: Address = A, destination: Address = B) -> list[int]:
    """Numbers in the order in which they arrive, one sent each millisecond."""
    for number in range(count):
        network.send(number / 1000, source, destination, b"%d" % number)
    return [int(one.payload) for one in everything(network)]


def test_in_calm_weather_everything_arrives_at_once_and_in_order() -> None:
    network = Network(seed=1)
    network.send(5.0, A, B, b"x")
    assert network.next_arrival() == 5.0
    assert network.deliver(4.9) == []
    assert network.deliver(5.0) == [Datagram(A, B, b"x")]
    assert stream(network, 100) == list(range(100))


def test_the_same_seed_gives_the_same_network_and_another_one_another() -> None:
    first, again, other = (stream(Network(seed, STORM), 500) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_traffic_on_one_line_changes_nothing_on_another() -> None:
    alone, busy = Network(3, STORM), Network(3, STORM)
    stream(busy, 300, source=C)
    assert stream(alone, 300) == stream(busy, 300)


def test_shares_of_loss_and_duplication_are_what_was_asked_for() -> None:
    network = Network(2, Weather(loss=0.25, duplicate=0.1))
    arrived = stream(network, 10_000)
    counted = network.counters
    assert counted["lost"] == pytest.approx(2_500, rel=0.1)
    assert counted["duplicated"] == pytest.approx(750, rel=0.2)
    assert counted["sent"] == 10_000
    assert len(arrived) == counted["delivered"] == 10_000 - counted["lost"] + counted["duplicated"]


def test_jitter_alone_keeps_the_order_and_reordering_does_not() -> None:
    assert stream(Network(1, Weather(jitter_s=0.1)), 500) == list(range(500))
    mixed = stream(Network(1, Weather(reorder=0.2, behind_s=0.02)), 500)
    assert mixed != sorted(mixed)
    assert sorted(mixed) == list(range(500))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.integers())
def test_nothing_arrives_before_it_could(loss: float, reorder: float, delay_s: float, seed: int) -> None:
    network = Network(seed, Weather(delay_s=delay_s, jitter_s=1, loss=loss, reorder=reorder))
    network.send(3.0, A, B, b"")
    moment = network.next_arrival()
    assert moment is None or moment >= 3.0 + delay_s


def test_a_partition_stops_what_is_under_way_too_and_heals() -> None:
    network = Network(1, Weather(delay_s=1))
    network.send(0, A, B, b"under way")
    network.partition({A.host}, {B.host})
    network.send(0, B, A, b"sent into it")
    network.send(0, A, C, b"not concerned")
    assert [one.payload for one in everything(network)] == [b"not concerned"]
    assert network.counters["parted"] == 2
    network.heal()
    network.send(2, A, B, b"after")
    assert [one.payload for one in everything(network)] == [b"after"]


def test_a_block_is_for_one_direction_and_weather_may_be_too() -> None:
    network = Network(1)
    network.block({A.host}, {B.host})
    assert stream(network, 10, A, B) == []
    assert len(stream(network, 10, B, A)) == 10
    network.heal()
    network.set_weather(Weather(loss=1), B.host, A.host)
    assert stream(network, 10, B, A) == []
    assert len(stream(network, 10, A, B)) == 10
    network.set_weather(Weather())
    assert len(stream(network, 10, B, A)) == 10


def test_a_share_that_is_none_and_a_line_with_one_end_are_refused() -> None:
    with pytest.raises(ValueError, match="loss is 5: it is a share"):
        Weather(loss=5)
    with pytest.raises(ValueError, match="both ends"):
        Network(1).set_weather(Weather(), source=A.host)


def seen_by(network: Network, now: float, target: Address = C) -> Address:
    """The source that the target sees of what A sends."""
    network.send(now, A, target, b"hello")
    (arrived,) = network.deliver(now)
    return arrived.source


def test_behind_a_nat_all_have_one_address_each_a_port_and_answers_come_in() -> None:
    network = Network(1)
    network.add_nat("203.0.113.1", {A.host, B.host})
    outer = seen_by(network, 0)
    assert outer.host == "203.0.113.1"
    assert outer == seen_by(network, 1, Address("198.51.100.9", 1)), "one inside port has one public port"
    network.send(1, C, outer, b"answer")
    assert network.deliver(1) == [Datagram(C, A, b"answer")]
    network.send(1, B, C, b"hello")
    (other,) = network.deliver(1)
    assert other.source.host == outer.host
    assert other.source != outer
    network.send(1, A, B, b"between them")
    assert network.deliver(1) == [Datagram(A, B, b"between them")]


def test_a_nat_lets_in_only_who_was_spoken_to_unless_it_is_open() -> None:
    stranger = Address("198.51.100.66", 66)
    for strict, expected in ((True, 0), (False, 1)):
        network = Network(1)
        network.add_nat("203.0.113.1", {A.host}, strict=strict)
        network.send(0, stranger, seen_by(network, 0), b"let me in")
        assert len(network.deliver(0)) == expected
        assert network.counters["untranslated"] == 1 - expected


def test_a_nat_that_rebinds_moves_or_is_idle_gives_another_outside_and_forgets_the_old_one() -> None:
    network = Network(1)
    nat = network.add_nat("203.0.113.1", {A.host}, idle_s=30)
    first = seen_by(network, 0)
    nat.rebind()
    second = seen_by(network, 1)
    assert (second.host, second.port) == (first.host, first.port + 1)
    nat.move("203.0.113.99")
    third = seen_by(network, 2)
    assert third.host == "203.0.113.99"
    assert seen_by(network, 32) == third
    assert seen_by(network, 62.1) != third
    for old in (first, second, third):
        network.send(63, C, old, b"late")
    assert everything(network) == [Datagram(C, first, b"late"), Datagram(C, second, b"late")], (
        "the old address is a host of its own now, and nobody listens there"
    )
