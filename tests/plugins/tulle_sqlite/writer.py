"""Run by test_processes.py in processes of its own: counts up a key that all writers share.

    python writer.py FILE NAME TIMES

Each round writes the common count, and under its own name the same number, in one transaction that fails if
anybody else was faster. Prints each count that was acknowledged.
"""

from __future__ import annotations

import asyncio
import sys

from tulle.contracts.store import Put, absent, unchanged
from tulle_sqlite.store import SqliteStore


async def main(path: str, name: str, times: int) -> None:
    store = SqliteStore(path)
    for _ in range(times):
        while True:
            seen = await store.get("p/count")
            count = 1 if seen is None else int(seen.value) + 1
            condition = absent("p/count") if seen is None else unchanged("p/count", seen.modified)
            value = b"%d" % count
            if (
                await store.transact([condition], [Put("p/count", value), Put(f"p/{name}", value)])
            ).succeeded:
                print(count, flush=True)
                break
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
