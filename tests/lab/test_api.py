"""The local API of a running node: a hundred clients at once do not disturb the packets, garbage does not either, and
what it answers is what its description says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tulle.lab import Lab
from tulle.lab.registry import Registry

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-api")]

CLIENTS = 100
FLOOD_PACKETS = 6_000
FLOOD_RATE = 1_500.0
"""A second. The clients take what tulled gives, which is a whole processor: the packets have to get by on the rest."""

HAMMER = """
import json, socket, sys, threading, time
run_dir, clients, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
request = b"GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
end = time.monotonic() + seconds
answers, wrong, lock = 0, [], threading.Lock()
together = threading.Barrier(clients + 1)

def client():
    global answers
    together.wait()
    while time.monotonic() < end:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(run_dir + "/tulled.sock")
                sock.sendall(request)
                answer = b""
                while piece := sock.recv(65536):
                    answer += piece
            whole = json.loads(answer.partition(b"\\r\\n\\r\\n")[2])["ready"] is True
        except (OSError, ValueError, KeyError) as error:
            whole, answer = False, repr(error).encode()
        with lock:
            answers += whole
            if not whole:
                wrong.append(answer[:200].decode(errors="replace"))

threads = [threading.Thread(target=client) for _ in range(clients)]
for thread in threads:
    thread.start()
together.wait()
print("begun", flush=True)
for thread in threads:
    thread.join()
print(json.dumps({"answers": answers, "wrong": wrong[:3]}))
"""
GARBAGE = """
import os, random, socket, sys
chance = random.Random(7)
for _ in range(300):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(sys.argv[1] + "/tulled.sock")
        try:
            sock.sendall(chance.randbytes(chance.randrange(2000)) + b"\\r\\n\\r\\n")
            sock.recv(1000)
        except OSError:
            pass
"""
AS_NOBODY = """
import contextlib, os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(10)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    sock.connect(sys.argv[1] + "/tulled.sock")
    with contextlib.suppress(BrokenPipeError):  # refused before it was read: the answer is there all the same
        sock.sendall(b"GET /v1/store HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(sock.recv(1000).split()[1].decode())
except PermissionError:
    print("no way in")
"""


@pytest.fixture(scope="module")
def lab(registry: Registry) -> Iterator[Lab]:
    with Lab(nodes=2, pods=1, registry=registry) as lab:
        yield lab


def test_a_hundred_clients_at_once_do_not_disturb_the_packets(
    lab: Lab, say: Callable[[str, object], None]
) -> None:
    seconds = FLOOD_PACKETS / FLOOD_RATE + 1.0
    hammer = lab.popen(
        "n1",
        [sys.executable, "-c", HAMMER, "/run/tulle", str(CLIENTS), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with lab.flood("n1/p1", "n2/p1", count=FLOOD_PACKETS, rate=FLOOD_RATE) as flood:
            assert hammer.stdout is not None
            assert hammer.stdout.readline() == "begun\n"
            result = flood.finish()
        output, _ = hammer.communicate(timeout=60)
    finally:
        hammer.kill()
        hammer.communicate()
    told = json.loads(output)
    say("flood", result)
    say("answers", told["answers"])
    assert told["wrong"] == []
    assert told["answers"] >= CLIENTS
    assert (result.sent, result.lost) == (FLOOD_PACKETS, 0)
    assert lab.status("n1")["ready"]


def test_garbage_at_the_api_neither_ends_tulled_nor_fills_its_log(lab: Lab) -> None:
    pid, before = lab.tulled_pid("n1"), lab.logs("n1")
    lab.run("n1", [sys.executable, "-c", GARBAGE, "/run/tulle"])
    assert lab.tulled_pid("n1") == pid
    assert lab.logs("n1") == before
    assert lab.ping("n1/p1", "n2/p1", 3) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="a lab without root has one user only")
def test_another_user_of_the_node_learns_nothing(lab: Lab) -> None:
    assert lab.run("n1", [sys.executable, "-c", AS_NOBODY, "/run/tulle"]).stdout == "no way in\n"
    lab.run("n1", ["chmod", "666", "/run/tulle/tulled.sock"])
    try:
        assert lab.run("n1", [sys.executable, "-c", AS_NOBODY, "/run/tulle"]).stdout == "403\n"
    finally:
        lab.run("n1", ["chmod", "600", "/run/tulle/tulled.sock"])


def test_what_a_running_node_answers_is_what_its_description_says(lab: Lab) -> None:
    jsonschema = pytest.importorskip("jsonschema")

    def ask(path: str) -> Any:
        program = (
            "import json, sys; from pathlib import Path; from tulle.node.client import Client\n"
            "print(json.dumps(Client(Path('/run/tulle')).get(sys.argv[1])))"
        )
        return json.loads(lab.run("n1", [sys.executable, "-c", program, path]).stdout)

    document = ask("openapi")
    for path in ("status", "status?peer=n2", "store"):
        described = document["paths"][f"/v1/{path.partition('?')[0]}"]["get"]
        schema = described["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": document["components"]}
        answer = ask(path)
        jsonschema.Draft202012Validator(whole).validate(answer)
        # And it would be seen if it were not so:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(whole).validate({**answer, next(iter(answer)): object()})
    assert ask("status?peer=n2")["peer_count"] == 1
