"""Text from outside in Markdown: it stays text, whatever signs it has. Pure."""

from __future__ import annotations

import re

from flows.picture import clean

MARKUP = frozenset("|`[]*_~#\\")
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
"""What colours a terminal, moves in it, or names its window."""
BEGINS = re.compile(r"^(\d*)([-+=.)])")
LONGEST_TAIL = 4000
SHORTEST_FENCE = 3


def escape(text: str) -> str:
    """Make text stay text in Markdown: no markup, no named link, no picture, no new cell, no new line.

    A bare address stays one, and its reader may make it a link to where it says.
    """
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(raw, safe)
    return "".join(f"\\{sign}" if sign in MARKUP else sign for sign in clean(text))


def paragraph(text: str) -> str:
    """Make text stay text where it begins a line: no rule, no list, no heading, no block of code."""
    return BEGINS.sub(r"\1\\\2", escape(text).strip())


def fenced(text: str, *, kind: str = "text", longest: int = LONGEST_TAIL) -> str:
    """Write the end of a text as a block of code that it cannot close; "" where there is none.

    A fence ends only at one that is as long, so it is longer than any run of its sign in the text.
    """
    plain = ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    lines = [clean(line.expandtabs()) for line in plain[-longest:].split("\n")]
    body = "\n".join(lines).strip("\n")
    if not body.strip():
        return ""
    longest = max((len(run) for run in re.findall("`+", body)), default=0)
    fence = "`" * max(SHORTEST_FENCE, longest + 1)
    return f"{fence}{kind}\n{body}\n{fence}"
