"""What an error of a connection means, in a few words for a sentence."""

from __future__ import annotations

import re
import socket
from http.client import BadStatusLine, RemoteDisconnected


def plain(error: BaseException) -> str:
    """Return the cause of an error in a few words: "Connection refused", "no answer in time"."""
    seen: BaseException | None = error
    while seen is not None:
        if words := _words(seen):
            return words
        seen = seen.__cause__ or seen.__context__
    text = str(error)
    if "timed out" in text:
        return "no answer in time"
    if "IncompleteRead" in text or "Remote end closed" in text:
        return "the connection broke off"
    return re.sub(r"<[^>]*>:? ?|https?://\S+", "", text).strip() or type(error).__name__


def _words(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return "what it says is no HTTP"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.strerror
    return ""
