"""Text from outside in Markdown: it stays text, whatever signs it has. Pure."""

from __future__ import annotations

import re

from flows.picture import clean

MARKUP = frozenset("|`[]*_~#\\")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
"""What colours a terminal, moves in it, or names its window."""
LONGEST_TAIL = 4000
SHORTEST_FENCE = 3


def escape(text: str) -> str:
    """Make text stay text in Markdown: no markup, no named link, no picture, no new cell, no new line.

    A bare address stays one, and its reader may make it a link to where it says.
    """
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(raw, safe)
    return "".join(f"\\{sign}" if sign in MARKUP else sign for sign in clean(text))


def fenced(text: str) -> str:
    """Write the end of a log as a block of code that its text cannot close; "" where there is none.

    A fence ends only at one that is as long, so it is longer than any run of its sign in the text.
    """
    plain = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    lines = [clean(line.expandtabs()) for line in plain[-LONGEST_TAIL:].split("\n")]
    body = "\n".join(lines).strip("\n")
    if not body.strip():
        return ""
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(SHORTEST_FENCE, longest + 1)
    return f"{fence}text\n{body}\n{fence}"
