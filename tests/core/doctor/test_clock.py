"""This node's clock against others'."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tulle.doctor.clock import LIMIT_MS, http_date, judge_date, judge_peers, judge_store

NOON = 1_800_000_000.0


def test_peers_that_agree_are_ok() -> None:
    (found,) = judge_peers({"n2": 3, "n3": -LIMIT_MS}, 5)
    assert found.severity == "ok"
    assert "2 of 5" in found.what


def test_where_most_differ_it_is_our_clock() -> None:
    (found,) = judge_peers({"n2": 60_000, "n3": 60_010, "n4": 0}, 3)
    assert (found.severity, found.subject) == ("error", "clock of this node")
    assert "60.0 s behind" in found.what


def test_where_one_differs_it_is_that_ones() -> None:
    (found,) = judge_peers({"n2": 0, "n3": 1, "n4": -5000}, 3)
    assert (found.severity, found.subject) == ("warning", "clock of n4")
    assert "5.0 s behind" in found.what


@pytest.mark.parametrize(("asked", "said"), [(0, "no peer"), (3, "none of 3 peers answered")])
def test_without_an_answer_it_is_skipped(asked: int, said: str) -> None:
    (found,) = judge_peers({}, asked)
    assert found.severity == "skipped"
    assert said in found.what


@pytest.mark.parametrize(
    ("ahead_s", "severity", "said"),
    [(0, "ok", "agrees"), (2, "ok", ""), (61, "error", "61.0 s behind"), (-9, "error", "ahead")],
)
def test_the_stores_date_is_compared_with_whole_seconds_in_mind(
    ahead_s: int, severity: str, said: str
) -> None:
    found = judge_date("http://store", NOON + ahead_s, NOON)
    assert found.severity == severity
    assert said in found.what


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server on loopback, and the Date that it answers with."""
    date = ["Fri, 15 Jan 2027 08:00:00 GMT"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            if date:
                self.send_header("Date", date[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}", date
        finally:
            made.shutdown()
            thread.join()


def test_a_date_is_read_from_an_http_answer(server: tuple[str, list[str]]) -> None:
    url, _ = server
    assert http_date(url) == NOON
    assert judge_store(url, lambda: NOON + 1).severity == "ok"
    assert judge_store(url, lambda: NOON - 600).severity == "error"


@pytest.mark.parametrize("said", [[], ["yesterday"]])
def test_a_server_that_tells_no_time_is_skipped(server: tuple[str, list[str]], said: list[str]) -> None:
    url, date = server
    date[:] = said
    assert judge_store(url, lambda: NOON).severity == "skipped"


def test_a_server_that_does_not_answer_is_skipped() -> None:
    assert judge_store("http://127.0.0.1:1", lambda: NOON).severity == "skipped"
