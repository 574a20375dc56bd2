"""`tulle ping` as a command: its lines, its sums, its flags. Real pings: tests/lab."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulle.cli.ping import Result, line, own_address, show_mtu, summary_line
from tulle.contracts.doctor import DoctorContext
from tulle.probe.ping import Answer, Summary
from tulle.trace.target import Target, UnknownTarget

RESULT = Result(node="n2", address="10.42.2.0", source="10.42.1.0", tunnel_mtu=1472)


def test_an_answer_says_its_time_or_why_there_is_none() -> None:
    assert line(Answer(0, 1.234), "10.42.2.0") == "10.42.2.0: number 1, 1.23 ms"
    assert line(Answer(1, None), "10.42.2.0") == "10.42.2.0: number 2, no answer"
    assert line(Answer(2, None, "host unreachable, says 192.0.2.1"), "a").endswith("says 192.0.2.1")


def test_the_sum_has_loss_and_times_and_names_trace_where_nothing_came() -> None:
    found = summary_line(Summary(4, 3, 25.0, 0.5, 1.0, 2.0))
    assert found == "4 sent, 3 answered, 25 % lost; min 0.50 ms, avg 1.00 ms, max 2.00 ms"
    assert summary_line(Summary(2, 0, 100.0)).endswith("see tulle trace, which says where they stop")


@pytest.mark.parametrize(
    ("fits", "tunnel", "words"),
    [
        (1472, 1472, "all that pods can send fits"),
        (1272, 1472, "only packets of up to 1272 bytes pass and come back"),
        (None, 1472, "not even small packets come back"),
        (1500, None, "there is no tunnel here"),
    ],
)
def test_the_mtu_search_says_what_it_means(
    capsys: pytest.CaptureFixture[str], fits: int | None, tunnel: int | None, words: str
) -> None:
    show_mtu(msgspec.structs.replace(RESULT, fits=fits, tunnel_mtu=tunnel))
    assert words in capsys.readouterr().out


def test_the_source_is_this_nodes_own_tunnel_address_of_the_family() -> None:
    ctx = DoctorContext(
        node="n1",
        run_dir=Path("/x"),
        state_dir=Path("/x"),
        subnet_file=Path("/x"),
        subnets=(ip_network("10.42.1.0/24"), ip_network("fd42:1::/64")),
        device="tulle0",
    )
    assert own_address(ctx, Target(ip_address("fd42:2::"), "x")) == ip_address("fd42:1::")
    assert own_address(ctx, Target(ip_address("10.42.2.0"), "x")) == ip_address("10.42.1.0")
    without = msgspec.structs.replace(ctx, device="")
    assert own_address(without, Target(ip_address("10.42.2.1"), "x")) == ip_address("10.42.1.1")
    alone = msgspec.structs.replace(ctx, subnets=ctx.subnets[:1])
    with pytest.raises(UnknownTarget, match="no IPv6 subnet to ping from"):
        own_address(alone, Target(ip_address("fd42:2::"), "x"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-c", "0"), "-c"),
        (("-i", "0"), "-i"),
        (("-s", "4"), "-s"),
        (("-s", "70000"), "-s"),
        (("-c", "many"), "not a valid integer"),
    ],
)
def test_numbers_that_make_no_sense_are_status_2(
    tulle: Any, store: tuple[str, ...], words: tuple[str, str], said: str
) -> None:
    done = tulle("ping", "n2", *words, *store)
    assert done.status == 2
    assert said in done.err
