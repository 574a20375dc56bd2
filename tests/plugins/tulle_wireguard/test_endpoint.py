"""Where a peer is: guesses, proofs, and what is tried when it is silent."""

from __future__ import annotations

from tulle_wireguard.endpoint import Endpoint, Whereabouts

LEASE = Endpoint(b"\x0a\0\0\x01", 51820)
PRIVATE = Endpoint(b"\xc0\xa8\0\x01", 51820)
ELSEWHERE = Endpoint(b"\x0a\0\0\x09", 40000, b"\x0a\0\0\x02")


def test_the_first_guess_is_where_a_peer_is_until_it_is_heard_from() -> None:
    where = Whereabouts()
    assert where.current is None
    where.told([LEASE, PRIVATE])
    assert where.current == LEASE
    assert where.proved(ELSEWHERE)
    assert where.current == ELSEWHERE
    assert not where.proved(ELSEWHERE)


def test_guesses_move_nobody_who_was_heard_from() -> None:
    where = Whereabouts()
    where.proved(ELSEWHERE)
    where.told([LEASE])
    where.told([LEASE])
    where.told([])
    assert where.current == ELSEWHERE


def test_other_guesses_than_before_are_news_and_the_place_that_was_proved_is_tried_after_them() -> None:
    where = Whereabouts()
    where.told([LEASE])
    where.proved(ELSEWHERE)
    where.told([PRIVATE])
    assert where.current == PRIVATE
    where.silent()
    assert where.current == ELSEWHERE.without_local()


def test_in_silence_all_places_are_tried_in_turn() -> None:
    where = Whereabouts()
    where.told([LEASE, PRIVATE])
    where.proved(ELSEWHERE)
    tried = []
    for _ in range(6):
        where.silent()
        assert where.current is not None
        tried.append(where.current.without_local())
    assert tried == [LEASE, PRIVATE, ELSEWHERE.without_local()] * 2


def test_one_place_stays_in_silence_but_our_own_address_is_chosen_anew() -> None:
    where = Whereabouts()
    where.proved(ELSEWHERE)
    where.silent()
    assert where.current == ELSEWHERE.without_local()
    where.silent()
    assert where.current == ELSEWHERE.without_local()


def test_to_move_is_another_address_or_port_and_not_another_address_of_ours() -> None:
    where = Whereabouts()
    assert where.proved(LEASE)
    assert not where.proved(LEASE._replace(local=b"\x0a\0\0\x03"))
    assert where.current == LEASE._replace(local=b"\x0a\0\0\x03")
    assert where.proved(LEASE._replace(port=1))


def test_a_cookie_is_bound_to_address_and_port() -> None:
    assert LEASE.cookie_source() == b"\x0a\0\0\x01\xca\x6c"
    assert ELSEWHERE.cookie_source() == ELSEWHERE.without_local().cookie_source()
