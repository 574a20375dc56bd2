"""Real etcds to hurt: one cluster of three with TLS and users, and single ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tulle.testing.certificates import Certificates, make_certificates
from tulle.testing.etcd import FETCH, EtcdServer, find_etcd
from tulle.testing.etcd_cluster import EtcdCluster

QUICK = ("--heartbeat-interval=50", "--election-timeout=500")
SHORT_TOKENS = ("--auth-token-ttl=1",)


@pytest.fixture(scope="session")
def etcd_here() -> None:
    """Fails, and does not skip, where etcd can be had."""
    if find_etcd() is None:
        if shutil.which("apt-get") is None:
            pytest.skip(f"no etcd, and no apt to get it with: {FETCH}")
        pytest.fail(f"these tests need a real etcd: {FETCH}")


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def cluster(etcd_here: None, tls: Certificates) -> Iterator[EtcdCluster]:
    """Three members, TLS, users, tokens that end after a second without use. Each test leaves it whole."""
    with EtcdCluster(certificates=tls, options=(*QUICK, *SHORT_TOKENS)) as made:
        made.enable_auth("root-password", [("tulle", "secret", "/faults/")])
        yield made


@pytest.fixture
def etcd(etcd_here: None) -> Iterator[EtcdServer]:
    """One member of the test's own, without TLS."""
    with EtcdServer(options=(*QUICK, "--max-request-bytes=8388608")) as made:
        yield made


@pytest.fixture
def settings(tls: Certificates, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`settings(endpoints)`: options of the etcd store; with TLS and a user where they are https."""
    password = tmp_path / "password"
    password.write_text("secret\n")

    def made(endpoints: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {"etcd-endpoints": endpoints}
        if endpoints[0].startswith("https"):
            found |= {"etcd-cafile": str(tls.ca), "etcd-certfile": str(tls.client)}
            found |= {"etcd-keyfile": str(tls.client_key)}
            found |= {"etcd-username": "tulle", "etcd-password-file": str(password)}
        return found

    return made


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Record a measured figure: it is printed (`pytest -rP`) and lies in a JUnit report."""

    def record(name: str, value: object) -> None:
        record_property(name, str(value))
        print(f"{name}: {value}")

    return record
