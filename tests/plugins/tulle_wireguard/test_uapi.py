"""Requests and answers of the `wg` socket, against a writer and a reader of the tests' own."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulle_wireguard.place import Place, parse_place
from tulle_wireguard.uapi import (
    MAX_LINE_BYTES,
    NO_KEY,
    AllowedIp,
    DeviceView,
    Get,
    PeerChange,
    PeerView,
    Refusal,
    Request,
    RequestReader,
    Set,
    answer_to_get,
    status,
)

KEY = bytes(range(32))
HEX = KEY.hex()

keys = st.binary(min_size=32, max_size=32)
addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda one: one.ipv4_mapped is None),
)
places = st.builds(Place, addresses, st.integers(1, 65535))
prefixes = st.one_of(
    st.builds(
        lambda number, length: IPv4Network((number, length), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, length: IPv6Network((number, length), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)
peer_changes = st.builds(
    PeerChange,
    public_key=keys,
    remove=st.booleans(),
    update_only=st.booleans(),
    preshared_key=st.none() | keys,
    endpoint=st.none() | places,
    keepalive_s=st.none() | st.integers(0, 65535),
    replace_allowed_ips=st.booleans(),
    allowed_ips=st.lists(st.builds(AllowedIp, prefixes, st.booleans()), max_size=4).map(tuple),
)
sets = st.builds(
    Set,
    private_key=st.none() | keys,
    listen_port=st.none() | st.integers(0, 65535),
    fwmark=st.none() | st.integers(0, 2**32 - 1),
    replace_peers=st.booleans(),
    peers=st.lists(peer_changes, max_size=4).map(tuple),
)


def written(request: Get | Set) -> bytes:
    """As `wg` writes it."""
    return "".join(f"{line}\n" for line in lines_of(request)).encode() + b"\n"


def lines_of(request: Get | Set) -> Iterator[str]:
    if isinstance(request, Get):
        yield "get=1"
        return
    yield "set=1"
    if request.private_key is not None:
        yield f"private_key={request.private_key.hex()}"
    if request.listen_port is not None:
        yield f"listen_port={request.listen_port}"
    if request.fwmark is not None:
        yield f"fwmark={request.fwmark}"
    if request.replace_peers:
        yield "replace_peers=true"
    for peer in request.peers:
        yield f"public_key={peer.public_key.hex()}"
        for name in ("remove", "update_only", "replace_allowed_ips"):
            if getattr(peer, name):
                yield f"{name}=true"
        if peer.preshared_key is not None:
            yield f"preshared_key={peer.preshared_key.hex()}"
        if peer.endpoint is not None:
            host = str(peer.endpoint.address)
            yield f"endpoint={f'[{host}]' if ':' in host else host}:{peer.endpoint.port}"
        if peer.keepalive_s is not None:
            yield f"persistent_keepalive_interval={peer.keepalive_s}"
        yield "protocol_version=1"
        for one in peer.allowed_ips:
            yield f"allowed_ip={'-' if one.remove else ''}{one.prefix}"


def read(data: bytes, **limits: int) -> list[Request]:
    return RequestReader(**limits).receive(data)


def only(text: str) -> Request:
    (found,) = read(text.encode())
    return found


@given(st.lists(st.one_of(st.just(Get()), sets), max_size=4), st.integers(1, 500))
def test_what_is_written_is_read_however_it_is_cut_into_pieces(requests: list[Get | Set], size: int) -> None:
    data = b"".join(written(one) for one in requests)
    reader = RequestReader()
    found = [one for at in range(0, len(data), size) for one in reader.receive(data[at : at + size])]
    assert found == requests


def test_the_lines_of_a_set_mean_what_they_say() -> None:
    assert only(
        f"set=1\nprivate_key={HEX.upper()}\nlisten_port=51820\nfwmark=0\nreplace_peers=true\n"
        f"public_key={HEX}\nupdate_only=true\npreshared_key={'00' * 32}\nendpoint=[2001:db8::1]:7\n"
        f"persistent_keepalive_interval=25\nallowed_ip=10.0.0.7/8\nallowed_ip=-fd00::/64\n"
        f"public_key={HEX}\nremove=true\n\n"
    ) == Set(
        private_key=KEY,
        listen_port=51820,
        fwmark=0,
        replace_peers=True,
        peers=(
            PeerChange(
                public_key=KEY,
                update_only=True,
                preshared_key=NO_KEY,
                endpoint=Place(IPv6Address("2001:db8::1"), 7),
                keepalive_s=25,
                allowed_ips=(
                    AllowedIp(IPv4Network("10.0.0.0/8")),
                    AllowedIp(IPv6Network("fd00::/64"), remove=True),
                ),
            ),
            PeerChange(public_key=KEY, remove=True),
        ),
    )


def test_replacing_allowed_ips_drops_those_of_earlier_lines_of_the_peer() -> None:
    found = only(
        f"set=1\npublic_key={HEX}\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=::/0\n\n"
    )
    assert isinstance(found, Set)
    assert found.peers[0].allowed_ips == (AllowedIp(IPv6Network("::/0")),)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("private_key", errno.EPROTO),
        (f"private_key={HEX[:-1]}", errno.EINVAL),
        (f"private_key={HEX[:-2]} {HEX[-2:]}", errno.EINVAL),
        ("listen_port=65536", errno.EINVAL),
        ("listen_port=-1", errno.EINVAL),
        ("listen_port=+1", errno.EINVAL),
        ("listen_port=", errno.EINVAL),
        ("fwmark=4294967296", errno.EINVAL),
        ("fwmark=0x10", errno.EINVAL),
        ("replace_peers=false", errno.EINVAL),
        ("endpoint=192.0.2.1:1", errno.EINVAL),
        ("jc=1", errno.EINVAL),
        ("get=1", errno.EINVAL),
        ("listen_port=\u0663", errno.EINVAL),
    ],
)
def test_a_wrong_line_about_the_device_refuses_the_request(line: str, error: int) -> None:
    found = only(f"set=1\n{line}\nlisten_port=1\n\n")
    assert isinstance(found, Refusal)
    assert (found.error, found.final) == (error, False)


@pytest.mark.parametrize(
    "line",
    [
        "preshared_key=00",
        "endpoint=192.0.2.1",
        "endpoint=192.0.2.1:0",
        "endpoint=192.0.2.1:65536",
        "endpoint=[192.0.2.1]:1",
        "endpoint=2001:db8::1:1",
        "endpoint=[2001:db8::1]",
        "endpoint=[fe80::1%eth0]:1",
        "endpoint=example.org:1",
        "endpoint=",
        "persistent_keepalive_interval=off",
        "persistent_keepalive_interval=65536",
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=10.0.0.0/255.0.0.0",
        "allowed_ip=--10.0.0.0/8",
        "allowed_ip=",
        "protocol_version=2",
        "remove=false",
        "update_only=1",
        "replace_allowed_ips=",
        "listen_port=1",
        "public_key=",
        "rx_bytes=1",
    ],
)
def test_a_wrong_line_about_a_peer_refuses_the_request(line: str) -> None:
    found = only(f"set=1\nlisten_port=1\npublic_key={HEX}\n{line}\n\n")
    assert isinstance(found, Refusal)
    assert found.error == errno.EINVAL


@pytest.mark.parametrize("text", ["\n", "get=2\n\n", "put=1\n\n", "get=1\nset=1\n\n", "set =1\n\n"])
def test_what_is_no_request_is_refused_and_the_next_one_is_read(text: str) -> None:
    refused, following = read(f"{text}get=1\n\n".encode())
    assert isinstance(refused, Refusal)
    assert following == Get()


def test_a_request_that_is_not_ended_gives_nothing() -> None:
    reader = RequestReader()
    assert reader.receive(b"set=1\nlisten_port=5\n") == []
    assert reader.receive(b"\n") == [Set(listen_port=5)]


def test_a_refused_key_is_not_repeated_in_the_reason() -> None:
    found = only(f"set=1\nprivate_key={HEX}0\n\n")
    assert isinstance(found, Refusal)
    assert HEX not in found.reason


@pytest.mark.parametrize(
    "data", [b"x" * (MAX_LINE_BYTES + 1), b"set=1\n" + b"x" * (MAX_LINE_BYTES + 1) + b"\n\n"]
)
def test_after_an_endless_line_nothing_more_is_read(data: bytes) -> None:
    reader = RequestReader()
    (found,) = reader.receive(data)
    assert isinstance(found, Refusal)
    assert (found.error, found.final) == (errno.E2BIG, True)
    assert reader.receive(b"\n\nget=1\n\n") == []


def test_a_request_has_a_largest_size() -> None:
    (found,) = read(b"set=1\n" + b"listen_port=1\n" * 100, max_request_bytes=1000)
    assert isinstance(found, Refusal)
    assert found.final


def test_requests_that_are_each_small_enough_may_follow_without_end() -> None:
    assert len(read(b"set=1\nlisten_port=1\n\n" * 100, max_request_bytes=30)) == 100


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    for one in read(b"set=1\n" + data + b"\n\n"):
        assert isinstance(one, Set | Get | Refusal)


views = st.builds(
    DeviceView,
    private_key=keys,
    listen_port=st.integers(0, 65535),
    fwmark=st.integers(0, 2**32 - 1),
    peers=st.lists(
        st.builds(
            PeerView,
            public_key=keys,
            preshared_key=keys,
            endpoint=st.none() | places,
            keepalive_s=st.integers(0, 65535),
            allowed_ips=st.lists(prefixes, max_size=3).map(tuple),
            last_handshake_ns=st.integers(0, 2**62),
            rx_bytes=st.integers(0, 2**64 - 1),
            tx_bytes=st.integers(0, 2**64 - 1),
        ),
        max_size=3,
    ),
)


@given(views)
def test_an_answer_to_get_holds_all_of_the_device(view: DeviceView) -> None:
    answer = answer_to_get(view).decode()
    assert answer.endswith("errno=0\n\n")
    sections: list[dict[str, Any]] = [{}]
    for line in answer.splitlines()[:-2]:
        key, _, value = line.partition("=")
        if key == "public_key":
            sections.append({})
        if key == "allowed_ip":
            sections[-1].setdefault(key, []).append(value)
        else:
            assert key not in sections[-1]
            sections[-1][key] = value
    device, *peers = sections
    assert device.get("private_key", NO_KEY.hex()) == view.private_key.hex()
    assert int(device.get("listen_port", 0)) == view.listen_port
    assert int(device.get("fwmark", 0)) == view.fwmark
    for found, peer in zip(peers, view.peers, strict=True):
        seconds, rest = int(found["last_handshake_time_sec"]), int(found["last_handshake_time_nsec"])
        assert rest < 10**9
        assert seconds * 10**9 + rest == peer.last_handshake_ns
        assert found == {
            "public_key": peer.public_key.hex(),
            "preshared_key": peer.preshared_key.hex(),
            "protocol_version": "1",
            "last_handshake_time_sec": str(seconds),
            "last_handshake_time_nsec": str(rest),
            "rx_bytes": str(peer.rx_bytes),
            "tx_bytes": str(peer.tx_bytes),
            "persistent_keepalive_interval": str(peer.keepalive_s),
        } | ({"endpoint": str(peer.endpoint)} if peer.endpoint else {}) | (
            {"allowed_ip": [str(one) for one in peer.allowed_ips]} if peer.allowed_ips else {}
        )
        if peer.endpoint is not None:
            assert parse_place(found["endpoint"]) == peer.endpoint


def test_an_error_is_told_as_a_negative_number() -> None:
    assert status(errno.EPERM) == b"errno=-1\n\n"
