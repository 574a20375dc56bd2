"""Runs nftables commands in this process, by libnftables.so.1 (libnftables(3)): a list takes 0.1 ms, where starting
`nft` takes 10.

Debian's own binding (python3-nftables) belongs to the system's Python and cannot be imported from a virtual
environment; the library's C interface is small and stable. Each call leaves the loop free: it runs in one thread of
this executor's, which is in the network namespace of whoever made the first call.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

LIBRARY = "libnftables.so.1"
PACKAGE = "libnftables1"

# nftables/libnftables.h
NFT_CTX_DEFAULT = 0
OUTPUT_HANDLE, OUTPUT_JSON, OUTPUT_TERSE = 1 << 3, 1 << 4, 1 << 11
LISTING = OUTPUT_HANDLE | OUTPUT_JSON | OUTPUT_TERSE

NO_SUCH = "No such file or directory"

Object = dict[str, Any]
"""One object of libnftables-json(5): {"table": {...}}, {"chain": {...}}, {"rule": {...}}."""


class NftMissing(Exception):
    """There is no libnftables here. The text says what to install."""


class NftError(Exception):
    """The kernel, or the library, refused. The text is nft's first line."""

    @property
    def gone(self) -> bool:
        """What the command names is not there."""
        return NO_SUCH in str(self)


class Nft:
    """Callers take turns. The library is loaded at the first call."""

    def __init__(self, library: str = LIBRARY) -> None:
        self._name = library
        self._context: _Context | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nft")

    async def apply(self, commands: str) -> None:
        """All of them or none: nft makes one transaction of a buffer. Raises NftMissing, NftError."""
        await self._in_thread(lambda context: context.run(commands, 0))

    async def listed(self, what: str) -> list[Object]:
        """ "chains", "table inet x": without the elements of sets and maps. Raises NftMissing, NftError."""
        text = await self._in_thread(lambda context: context.run(f"list {what}\n", LISTING))
        try:
            found = json.loads(text)["nftables"] if text else []
            return [one for one in found if isinstance(one, dict) and "metainfo" not in one]
        except (ValueError, KeyError, TypeError) as error:
            raise NftError(f"libnftables lists no JSON (is it built without?): {error}") from error

    async def tables(self) -> set[tuple[str, str]]:
        """Family and name of each. Raises NftMissing, NftError."""
        # As text: the JSON of libnftables 1.0.6 has bytes of other memory where a table has an owner (its flag).
        text = await self._in_thread(lambda context: context.run("list tables\n", 0))
        words = (line.split() for line in text.splitlines())
        return {(one[1], one[2]) for one in words if len(one) >= 3 and one[0] == "table"}

    def close(self) -> None:
        """May be called twice; nothing may be asked after it."""
        self._thread.shutdown(wait=True)
        if self._context is not None:
            self._context.free()
            self._context = None

    async def _in_thread(self, call: Callable[[_Context], str]) -> str:
        def run() -> str:
            if self._context is None:
                self._context = _Context(self._name)
            return call(self._context)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


class _Context:
    """A struct nft_ctx."""

    def __init__(self, name: str) -> None:
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise NftMissing(f"{name} cannot be loaded ({error}): apt install {PACKAGE}") from error
        self._declare()
        made = self._library.nft_ctx_new(NFT_CTX_DEFAULT)
        if not made:
            raise NftError("libnftables could not be set up (out of memory or of descriptors)")
        self._context = ctypes.c_void_p(made)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def _declare(self) -> None:
        library, context = self._library, ctypes.c_void_p
        library.nft_ctx_new.restype = context
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
        library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
        for function in (library.nft_ctx_get_output_buffer, library.nft_ctx_get_error_buffer):
            function.argtypes, function.restype = [context], ctypes.c_char_p
        for function in (library.nft_ctx_buffer_output, library.nft_ctx_buffer_error, library.nft_ctx_free):
            function.argtypes = [context]

    def run(self, commands: str, flags: int) -> str:
        """What it printed. Raises NftError."""
        self._library.nft_ctx_output_set_flags(self._context, flags)
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context)
        errors = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        if failed:
            lines = [line for line in errors.splitlines() if line.strip()]
            raise NftError(lines[0] if lines else "nft failed without a word")
        text: str = output.decode(errors="replace")
        return text

    def free(self) -> None:
        self._library.nft_ctx_free(self._context)
