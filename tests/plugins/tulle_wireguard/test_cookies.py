"""mac1, mac2 and cookies: who asks for what, bound to whom, for how long."""

from __future__ import annotations

import random

import pytest

from tulle_wireguard.constants import COOKIE_SECRET_AGE_S
from tulle_wireguard.cookies import Checker, Stamper
from tulle_wireguard.messages import CookieReply, Initiation, Response, decode

PUBLIC = bytes(range(32))
HERE, OTHER_PORT, OTHER_HOST = b"\x0a\0\0\x01\x12\x34", b"\x0a\0\0\x01\x12\x35", b"\x0a\0\0\x02\x12\x34"
NOW = 1000.0


def checker() -> Checker:
    return Checker(PUBLIC, random.Random(1).randbytes)


def initiation(number: int = 7) -> bytes:
    return Initiation(number, b"e" * 32, b"s" * 48, b"t" * 28).encode()


def reply_to(check: Checker, message: bytes, now: float = NOW) -> CookieReply:
    found = decode(check.reply(message, HERE, now))
    assert isinstance(found, CookieReply)
    return found


@pytest.mark.parametrize("message", [initiation(), Response(7, 8, b"e" * 32, b"n" * 16).encode()])
def test_mac1_holds_for_the_receiver_that_was_meant_and_for_no_changed_byte(message: bytes) -> None:
    stamped = Stamper(PUBLIC).stamp(message, NOW)
    assert len(stamped) == len(message)
    assert stamped[-16:] == bytes(16)
    assert checker().mac1_holds(stamped)
    assert not Checker(b"x" * 32, random.Random(1).randbytes).mac1_holds(stamped)
    for place in range(len(stamped) - 16):
        bad = bytearray(stamped)
        bad[place] ^= 1
        assert not checker().mac1_holds(bytes(bad))


def test_a_cookie_is_good_for_the_address_and_port_it_was_asked_from() -> None:
    check, stamper = checker(), Stamper(PUBLIC)
    first = stamper.stamp(initiation(), NOW)
    assert not check.mac2_holds(first, HERE, NOW)
    reply = reply_to(check, first)
    assert reply.receiver == 7
    assert stamper.take_reply(reply, NOW)
    second = stamper.stamp(initiation(8), NOW)
    assert check.mac1_holds(second)
    assert check.mac2_holds(second, HERE, NOW)
    assert not check.mac2_holds(second, OTHER_PORT, NOW)
    assert not check.mac2_holds(second, OTHER_HOST, NOW)


def test_a_cookie_ends_with_the_secret_and_is_not_used_for_the_last_seconds() -> None:
    check, stamper = checker(), Stamper(PUBLIC)
    assert stamper.take_reply(reply_to(check, stamper.stamp(initiation(), NOW)), NOW)
    near = stamper.stamp(initiation(), NOW + COOKIE_SECRET_AGE_S - 5.1)
    assert check.mac2_holds(near, HERE, NOW + COOKIE_SECRET_AGE_S - 0.1)
    assert not check.mac2_holds(near, HERE, NOW + COOKIE_SECRET_AGE_S)
    assert stamper.stamp(initiation(), NOW + COOKIE_SECRET_AGE_S - 5)[-16:] == bytes(16)


def test_only_a_reply_to_the_last_message_is_taken_and_only_once() -> None:
    check, stamper = checker(), Stamper(PUBLIC)
    first = stamper.stamp(initiation(1), NOW)
    second = stamper.stamp(initiation(2), NOW)
    assert not stamper.take_reply(reply_to(check, first), NOW)
    reply = reply_to(check, second)
    assert stamper.take_reply(reply, NOW)
    assert not stamper.take_reply(reply, NOW)


def test_a_forged_reply_is_not_taken_and_a_right_one_after_it_is() -> None:
    check, stamper = checker(), Stamper(PUBLIC)
    message = stamper.stamp(initiation(), NOW)
    right = reply_to(check, message)
    assert not stamper.take_reply(right._replace(cookie=bytes(32)), NOW)
    assert not stamper.take_reply(right._replace(nonce=bytes(24)), NOW)
    assert not stamper.has_cookie(NOW)
    assert stamper.take_reply(right, NOW)


def test_nobody_who_has_sent_nothing_takes_a_reply() -> None:
    assert not Stamper(PUBLIC).take_reply(reply_to(checker(), initiation()), NOW)
