"""The text of `tulle status`: one screen with 3 peers and with 5,000, what is wrong first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest

from tulle.cli.statustext import SHOWN_PEERS, SHOWN_PROBLEMS, in_full, only_problems, overview
from tulle.contracts.backend import Problem
from tulle.node.answers import (
    DataplaneAnswer,
    LeaseAnswer,
    MendAnswer,
    PeerAnswer,
    StatusAnswer,
    StoreAnswer,
    Traffic,
    TunnelAnswer,
)

MakeStatus = Callable[..., StatusAnswer]
NOW = 1000.0


def peer(number: int, **different: Any) -> PeerAnswer:
    named = {
        "key": f"10.{number >> 8}.{number & 255}.0-24",
        "node": f"n{number:04}",
        "subnets": [f"10.{number >> 8}.{number & 255}.0/24"],
        "endpoints": ["192.0.2.9"],
        "backend": "",
    }
    return PeerAnswer(**(named | different))


def text(status: StatusAnswer, **how: Any) -> str:
    return click.unstyle("\n".join(overview(status, NOW, **how)))


def test_the_store_says_its_kind_since_when_and_how_quick_it_is(make_status: MakeStatus) -> None:
    assert "sqlite at /x/store.sqlite, single-machine: connected for 1m00s, answers in 1.2 ms" in text(
        make_status()
    )


def test_a_store_that_is_away_does_not_say_how_quick_it_was(make_status: MakeStatus) -> None:
    store = StoreAnswer(
        name="etcd",
        location="http://192.0.2.1:2379",
        single_machine=False,
        by_default=False,
        prefix="/p",
        state="away",
        since=900.0,
        latency_s=0.001,
        endpoint="",
        server_version="",
        outages=2,
        last_error="x",
    )
    shown = text(make_status(store=store))
    assert "etcd at http://192.0.2.1:2379: away for 1m40s, 2 outages" in shown
    assert "answers in" not in shown


def test_a_store_that_nothing_chose_is_said_to_be_that(make_status: MakeStatus) -> None:
    base = make_status().store
    lease = LeaseAnswer(key="k", prefixes=[], reserved=True, confirmed_s_ago=65.0, lost=False)
    by_default = {name: getattr(base, name) for name in base.__struct_fields__} | {
        "by_default": True,
        "lease": lease,
    }
    shown = text(make_status(store=StoreAnswer(**by_default)))
    assert "single-machine, taken since nothing chose another" in shown
    assert "(reserved, confirmed 1m05s ago)" in shown


def test_the_engine_says_why_it_runs_what_it_cannot_and_where_it_stands(make_status: MakeStatus) -> None:
    plane = DataplaneAnswer(
        engine="python",
        engine_because="the only one installed",
        engine_notes=["UDP_GRO is off"],
        forwarder_pid=7,
        forwarder_restarts=2,
        generation_wanted=5,
        generation_applied=4,
        counters={"packets-out": 1234, "bytes-out": 2_500_000, "drop-no-route": 3, "drop-too-big": 0},
    )
    shown = text(make_status(dataplane=plane))
    assert "udp: engine python (the only one installed), forwarder 7, replaced 2 times, state 4 of 5" in shown
    assert "UDP_GRO is off" in shown
    assert "out 1,234 (2.5 MB), in 0 (0 B)" in shown
    assert "dropped   no-route 3\n" in shown


def test_a_second_data_plane_stands_below_the_first(make_status: MakeStatus) -> None:
    first = DataplaneAnswer(engine="python", forwarder_pid=7, generation_wanted=3, generation_applied=3)
    second = DataplaneAnswer(
        engine="python",
        forwarder_pid=8,
        generation_wanted=4,
        generation_applied=2,
        counters={"packets-out": 5},
    )
    shown = text(make_status(dataplane=first, second_dataplanes={"v6": second}))
    lines = [line.split() for line in shown.splitlines()]
    assert ["v6", "engine", "python,", "forwarder", "8,", "state", "2", "of", "4"] in lines
    assert shown.index("forwarder 7") < shown.index("forwarder 8")


def test_a_backend_without_an_engine_is_named_alone(make_status: MakeStatus) -> None:
    assert "backend   udp\n" in text(make_status())


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"mode": "kernel", "mode_because": "it can"}, "backend   vxlan, mode kernel (it can)\n"),
        ({"mode": "separate"}, "backend   vxlan, mode separate\n"),
        ({"mode": "", "mode_because": ""}, "backend   vxlan\n"),
    ],
)
def test_a_backend_with_modes_says_which_and_why(
    make_status: MakeStatus, told: dict[str, str], said: str
) -> None:
    assert said in text(make_status(backend={"type": "vxlan", **told}))


def test_a_problem_names_its_subject_once(make_status: MakeStatus) -> None:
    problems = [Problem("c", "eth0", "eth0: its filter is strict"), Problem("c", "n2", "not on eth0")]
    shown = text(make_status(problems=problems))
    assert "problem   eth0: its filter is strict\n" in shown
    assert "problem   n2: not on eth0\n" in shown


def test_without_peers_it_asks_what_to_look_at(make_status: MakeStatus) -> None:
    assert "is another node's tulled running on this store?" in text(make_status())


def test_a_peer_that_nobody_counts_is_not_said_to_be_silent(make_status: MakeStatus) -> None:
    """The kernel carries its packets."""
    shown = text(make_status(peers=[peer(1)]))
    assert "never" not in shown
    assert shown.splitlines()[-1].split()[-4:] == ["-"] * 4


def test_five_thousand_peers_are_one_screen_with_the_wrong_and_the_busy_first(
    make_status: MakeStatus,
) -> None:
    peers = [peer(number) for number in range(5000)]
    peers[4000] = peer(4000, traffic=Traffic(packets_in=9, bytes_in=900, last_seen_s_ago=3.0))
    problems = [Problem("c", peers[4999].key, "its datagrams are refused")]
    lines = text(make_status(peers=peers, problems=problems)).splitlines()
    assert len(lines) < 40
    first = next(number for number, line in enumerate(lines) if line.startswith("PEER")) + 1
    assert lines[first].startswith("n4999")
    assert lines[first + 1].startswith("n4000")
    assert "3s ago" in lines[first + 1]
    assert "peers     5,000" in lines
    assert lines[-1] == f"… and {5000 - SHOWN_PEERS:,} more: --all"


def test_everything_is_everything(make_status: MakeStatus) -> None:
    peers = [peer(number) for number in range(100)]
    problems = [Problem("c", f"x{number}", "wrong") for number in range(50)]
    mended = [MendAnswer(at=900.0 + number, line=f"mend {number}") for number in range(10)]
    status = make_status(peers=peers, problems=problems, mended=mended, mends=12)
    short, whole = text(status), text(status, everything=True)
    assert f"… and {50 - SHOWN_PROBLEMS} more problems: --problems" in short
    assert "mended    12 times since tulled's start" in short
    assert "1m31s ago: mend 9" in short
    assert "mend 0" not in short
    assert "more" not in whole
    assert whole.count("wrong") == 50
    assert "mend 0" in whole
    assert sum(line.startswith("n00") for line in whole.splitlines()) == 100


def test_only_problems_leaves_out_all_else(make_status: MakeStatus) -> None:
    problems = [Problem("c", f"x{number}", "wrong") for number in range(50)]
    lines = [click.unstyle(one) for one in only_problems(make_status(peers=[peer(1)], problems=problems))]
    assert len(lines) == 51
    assert "none that tulled knows of" in list(only_problems(make_status()))[-1]


def test_one_peer_has_its_own_problems_and_drops(make_status: MakeStatus) -> None:
    one = peer(1, traffic=Traffic(packets_out=5, bytes_out=500, drops={"replay": 2}))
    problems = [Problem("c", "n0001", "no handshake"), Problem("c", "n0002", "another's")]
    shown = click.unstyle("\n".join(in_full(make_status(peers=[one], problems=problems), one)))
    assert "last seen never" in shown
    assert "out       5 (500 B)" in shown
    assert "dropped   replay 2" in shown
    assert "no handshake" in shown
    assert "another's" not in shown


def test_one_peer_whose_packets_the_kernel_carries_is_not_said_to_be_silent(make_status: MakeStatus) -> None:
    shown = "\n".join(in_full(make_status(peers=[peer(1)]), peer(1)))
    assert "the kernel, which counts none by peer" in shown
    assert "never" not in shown


TUNNELS = [
    TunnelAnswer(endpoint="198.51.100.7:4500", last_handshake_s_ago=75.0),
    TunnelAnswer(dataplane="v6", endpoint="[2001:db8::7]:51821"),
]


def test_a_peer_is_shown_where_it_was_heard_and_with_its_last_handshake(make_status: MakeStatus) -> None:
    lines = text(make_status(peers=[peer(1, tunnels=TUNNELS), peer(2)])).splitlines()
    headers, first, second = lines[-3:]
    assert headers.split()[-1] == "DROPPED"
    assert "198.51.100.7:4500, [2001:db8::7]:51821" in first
    assert "192.0.2.9" not in first
    column = headers.index("HANDSHAKE")
    assert first[column:] == "1m15s ago, v6 none yet  -"
    assert "192.0.2.9" in second
    assert second[column:].split() == ["-", "-"]


def test_peers_without_tunnels_have_no_such_column(make_status: MakeStatus) -> None:
    assert "HANDSHAKE" not in text(make_status(peers=[peer(1)]))


def test_one_peer_has_a_line_for_each_tunnel(make_status: MakeStatus) -> None:
    one = peer(1, tunnels=[*TUNNELS, TunnelAnswer(dataplane="x")])
    lines = [click.unstyle(line) for line in in_full(make_status(peers=[one]), one)]
    assert [line for line in lines if line.startswith("tunnel")] == [
        "tunnel    198.51.100.7:4500, handshake 1m15s ago",
        "tunnel    v6 [2001:db8::7]:51821, handshake none yet",
        "tunnel    x no address yet, handshake none yet",
    ]
    assert "endpoints 192.0.2.9" in lines


@pytest.mark.parametrize(("number", "said"), [(1, "1 time since"), (2, "2 times since")])
def test_a_single_mend_is_one_time(make_status: MakeStatus, number: int, said: str) -> None:
    assert said in text(make_status(mends=number, mended=[MendAnswer(at=NOW, line="x")]))


@pytest.mark.parametrize("name", ["n\x1b[2J", "n\nnext", "n\u202e"])
def test_what_others_wrote_cannot_steer_the_terminal(make_status: MakeStatus, name: str) -> None:
    problems = [Problem("c", name, f"about {name}")]
    status = make_status(node=name, peers=[peer(1, node=name)], problems=problems)
    shown = text(status)
    assert name not in shown
    assert "\x1b" not in shown
