"""Runs with etcd3, an etcd client that is not ours, in a process of its own: `etcd3_witness.py PORT VERB ...`.

put KEY VALUE | get-prefix PREFIX | lease-put TTL KEY VALUE | swap KEY OLD NEW. Answers with one line of JSON.
"""

import json
import sys

import etcd3


def main(port: str, verb: str, *arguments: str) -> object:
    client = etcd3.client(host="127.0.0.1", port=int(port), timeout=10)
    if verb == "put":
        client.put(*arguments)
        return None
    if verb == "lease-put":
        ttl, key, value = arguments
        lease = client.lease(int(ttl))
        client.put(key, value, lease=lease)
        return lease.id
    if verb == "swap":
        return client.replace(*arguments)
    return [
        [
            meta.key.decode(),
            value.decode(),
            meta.lease_id,
            meta.version,
            meta.create_revision,
            meta.mod_revision,
        ]
        for value, meta in client.get_prefix(*arguments)
    ]


json.dump(main(*sys.argv[1:]), sys.stdout)
