"""The body of one answer: whole or a range, from memory or disk, at a rate, broken on demand."""

from __future__ import annotations

import math
import os
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab import hub_faults as bad
from tests.lab.hub_files import Blob
from tests.lab.pace import PIECE_BYTES, piece_bytes

if TYPE_CHECKING:
    from tests.lab.hub_wire import Handler

SENDFILE_BYTES = 1 << 20
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def ranged(header: str | None, size: int | None) -> tuple[int, float] | None:
    """Return first byte and end of a Range header; None when there is none that is understood.

    Without `size`, the end of an open range is infinity.
    """
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    whole = math.inf if size is None else size
    if not match[1]:
        return (0 if size is None else max(0, size - int(match[2])), whole)
    first, last = int(match[1]), float(match[2] or math.inf)
    return (first, min(last + 1, whole)) if last >= first else None


@dataclass
class Body:
    """A file on its way to one client."""

    handler: Handler
    blob: Blob
    headers: dict[str, str]
    ranges: bool = True

    def send(self) -> None:
        """Answer with the range that is asked for, or with all."""
        size = self.blob.size_bytes
        asked = self._asked()
        fault = self.handler.fault
        if asked is not None and asked[0] >= size:
            self.handler.head(416, 0, {"Content-Range": f"bytes */{size}"})
            return
        first, end = (asked[0], int(asked[1])) if asked else (0, size)
        if isinstance(fault, bad.Short):
            end = max(first, end - fault.by)
        extra = fault.by if isinstance(fault, bad.Long) else 0
        announced = end - first + (extra if isinstance(fault, bad.Long) and fault.announced else 0)
        if isinstance(fault, bad.Lie) and fault.size is not None and self.handler.command == "HEAD":
            announced = fault.size
        known = {"Content-Range": f"bytes {first}-{end - 1}/{size}"} if asked else {}
        accept = {"Accept-Ranges": "bytes"} if self.ranges else {}
        kind = {"Content-Type": "application/octet-stream"}
        self.handler.head(206 if asked else 200, announced, {**kind, **accept, **known, **self.headers})
        if self.handler.command == "HEAD":
            return
        if self._send(first, end) and extra:
            self.handler.close_connection = True
            self._put(b"\xee" * extra)

    def _asked(self) -> tuple[int, float] | None:
        headers = self.handler.headers
        if not self.ranges or self.handler.command != "GET":
            return None
        if headers.get("If-Range", self.headers.get("ETag")) != self.headers.get("ETag"):
            return None
        return ranged(headers.get("Range"), self.blob.size_bytes)

    def _send(self, first: int, end: int) -> bool:
        """Send bytes `first` to `end`, and tell whether all of them went."""
        stop = bad.place_of(self.handler.fault, first, end)
        position = first
        with self.blob.opened() as descriptor:
            while position < end:
                if position == stop and not self._goes_on():
                    return False
                upto = int(min(end, position + self._step(descriptor), stop if stop > position else end))
                if not self._wait(upto - position):
                    return False
                sent = self._piece(descriptor, position, upto)
                if not sent:
                    return False
                position += sent
        return True

    def _goes_on(self) -> bool:
        """Break here, and tell whether the answer goes on afterwards."""
        fault = self.handler.fault
        if isinstance(fault, bad.Drop):
            self.handler.abort(reset=fault.reset)
            return False
        pause_s = fault.for_s if isinstance(fault, bad.Stall) else None
        self.handler.lab.closing.wait(pause_s)
        if pause_s is None:
            self.handler.close_connection = True
        return pause_s is not None

    def _rates(self) -> tuple[float | None, float | None]:
        fault, lab = self.handler.fault, self.handler.lab
        return (fault.bytes_per_s if isinstance(fault, bad.Slow) else lab.bytes_per_s, lab.link_bytes_per_s)

    def _step(self, descriptor: int | None) -> int:
        free = PIECE_BYTES if descriptor is None else SENDFILE_BYTES
        return piece_bytes(*self._rates()) or free

    def _wait(self, count: int) -> bool:
        """Wait until `count` more bytes may go; False when the lab closes meanwhile."""
        own, shared = self._rates()
        lab = self.handler.lab
        wait_s = max(self.handler.bucket.take(count, own), lab.link.take(count, shared))
        if wait_s > 0:
            lab.closing.wait(wait_s)
        if lab.closing.is_set():
            self.handler.close_connection = True
        return not lab.closing.is_set()

    def _piece(self, descriptor: int | None, first: int, end: int) -> int:
        """Send one piece and return its length; 0 when the client is gone."""
        fault, connection = self.handler.fault, self.handler.connection
        if descriptor is None or isinstance(fault, bad.Flip) or isinstance(connection, ssl.SSLSocket):
            return self._put(self._damaged(self.blob.piece(descriptor, first, end), first))
        sent = 0
        self._count(end - first)
        try:
            sent = os.sendfile(connection.fileno(), descriptor, first, end - first)
        except OSError:
            self.handler.close_connection = True
        self._count(sent - (end - first))
        return sent

    def _damaged(self, piece: bytes, first: int) -> bytes:
        if not isinstance(self.handler.fault, bad.Flip):
            return piece
        at = self.handler.fault.at
        at = (self.blob.size_bytes - 1 if at < 0 else at) - first
        return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :] if 0 <= at < len(piece) else piece

    def _put(self, piece: bytes) -> int:
        self._count(len(piece))
        try:
            self.handler.wfile.write(piece)
        except OSError:
            self.handler.close_connection = True
            self._count(-len(piece))
            return 0
        return len(piece)

    def _count(self, sent_bytes: int) -> None:
        # Counted before it is sent, so that whoever has the bytes finds them counted.
        self.handler.lab.count_sent(self.handler.asked, sent_bytes)
