"""The store's raw keys, inside a lab: `store.py get KEY`, `put KEY VALUE`, `delete KEY`, below the prefix."""

from __future__ import annotations

import sys

from tulle.cli.store import find_store
from tulle.contracts.store import Delete, Put, Store
from tulle.plugins import load_plugins

access = find_store(load_plugins(), {})


async def main(store: Store) -> None:
    word, key = sys.argv[1], f"{access.prefix}/{sys.argv[2]}"
    if word == "get":
        for found in (await store.list(key)).items:
            print(found.value.decode())
        return
    operation = Put(key, sys.argv[3].encode()) if word == "put" else Delete(key)
    await store.transact([], [operation])


access.run(main)
