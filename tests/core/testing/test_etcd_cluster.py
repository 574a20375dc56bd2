"""The helper that runs a cluster of real etcds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tulle.testing.certificates import make_certificates
from tulle.testing.etcd import FETCH, EtcdFailed, find_etcd
from tulle.testing.etcd_cluster import EtcdCluster

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    if find_etcd() is None:
        if shutil.which("apt-get") is None:
            pytest.skip(f"no etcd, and no apt to get it with: {FETCH}")
        pytest.fail(f"these tests need a real etcd: {FETCH}")
    with EtcdCluster(certificates=make_certificates(tmp_path_factory.mktemp("tls"))) as made:
        yield made


def test_members_share_their_data_and_another_leads_when_the_leader_dies(cluster: EtcdCluster) -> None:
    cluster[0].etcdctl("put", "/a", "1")
    leader = cluster.leader()
    assert {member.name for member in (leader, *cluster.followers())} == {"member0", "member1", "member2"}
    leader.kill()
    assert not leader.running
    successor = cluster.leader()
    assert successor is not leader
    assert successor.etcdctl("get", "/a", "--print-value-only") == "1\n"
    cluster.start([leader])
    assert leader.etcdctl("get", "/a", "--print-value-only") == "1\n"


def test_space_of_what_was_compacted_comes_back_by_defragmenting(cluster: EtcdCluster) -> None:
    for _ in range(20):
        cluster[0].etcdctl("put", "/big", input=b"x" * 200_000)
    cluster.compact()
    before = max(member.status().database_bytes for member in cluster.members)
    cluster.defragment()
    assert all(member.status().database_bytes < before / 2 for member in cluster.members)


def test_users_are_known_to_all_members(cluster: EtcdCluster) -> None:
    cluster.enable_auth("root-password", [("ann", "secret", "/ann/")])
    try:
        for member in cluster.members:
            member.etcdctl("--user=ann:secret", "put", "/ann/a", "1")
            with pytest.raises(EtcdFailed, match="permission denied"):
                member.etcdctl("--user=ann:secret", "put", "/bob/a", "1")
    finally:
        cluster[0].etcdctl("auth", "disable")
        for member in cluster.members:
            member.root_password = None


def test_without_a_majority_nobody_leads_and_that_is_said(cluster: EtcdCluster) -> None:
    # The last one has never led: a leader takes itself for one until it has missed the others for a while.
    gone = [cluster.leader(), cluster.followers()[0]]
    for member in gone:
        member.kill()
    try:
        with pytest.raises(EtcdFailed, match=r"leads after 1 s"):
            cluster.leader(within_s=1)
    finally:
        cluster.start(gone)
    cluster.leader()
