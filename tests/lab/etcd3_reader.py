"""Reads with etcd3, an etcd client that is not ours, in a process of its own: `etcd3_reader.py HOST PORT PREFIX`.

Answers with one line of JSON: [[key, value, seconds that its lease was granted for], ...].
"""

import json
import sys

import etcd3


def main(host: str, port: str, prefix: str) -> object:
    client = etcd3.client(host=host, port=int(port), timeout=10)
    return [
        [meta.key.decode(), value.decode(), granted(client, meta.lease_id)]
        for value, meta in client.get_prefix(prefix)
    ]


def granted(client: etcd3.Etcd3Client, lease: int) -> int | None:
    return int(client.get_lease_info(lease).grantedTTL) if lease else None


json.dump(main(*sys.argv[1:]), sys.stdout)
