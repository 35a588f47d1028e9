"""A file on its way to one client: pieces of 1 MiB, read in a thread while the one before is sent."""

from __future__ import annotations

import asyncio
import io
import os
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Receive, Send

from tasks.pull.seed.wire import Part

PIECE_BYTES = 1 << 20

GONE = "the client went away"
CHANGED = "the file changed while it was sent"


@dataclass
class Stream:
    """One body. `sent_bytes` is what the server took of it; `note` says why it is not all."""

    file: io.FileIO
    part: Part
    pool: Executor
    sent_bytes: int = 0
    note: str = ""

    async def run(self, receive: Receive, send: Send) -> None:
        """Send the part, and end early where the client goes away or the file is no longer what it was.

        A body that ends early is cut off, so that no client takes it for whole. Closes the file.
        """
        gone = asyncio.ensure_future(_until_gone(receive))
        reading: Future[bytes] | None = None
        try:
            self._begun = self._look()
            reading = self.pool.submit(self._read, self.part.first)
            while piece := await asyncio.wrap_future(reading):
                at = self.part.first + self.sent_bytes + len(piece)
                more = at < self.part.end
                if more:
                    reading = self.pool.submit(self._read, at)
                if gone.done():
                    self.note = GONE
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": more})
                self.sent_bytes += len(piece)
                if not more:
                    return
            self.note = CHANGED
        except OSError as error:
            self.note = f"the file cannot be read ({error.strerror or error})"
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await gone
            self._close_after(reading)

    def _read(self, at: int) -> bytes:
        """Read a piece; none of a file that somebody writes to, for its receipt held before that."""
        piece = os.pread(self.file.fileno(), min(PIECE_BYTES, self.part.end - at), at)
        return piece if self._look() == self._begun else b""

    def _look(self) -> tuple[int, int]:
        # Not the time of the inode: a pull that puts the same bytes in this file's place changes it.
        seen = os.fstat(self.file.fileno())
        return seen.st_size, seen.st_mtime_ns

    def _close_after(self, reading: Future[bytes] | None) -> None:
        """Close the file once no thread reads it."""
        if reading is None:
            self.file.close()
        else:
            reading.add_done_callback(lambda _done: self.file.close())


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
