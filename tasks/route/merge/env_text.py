r"""Files of NAME=value lines, as shells and services read them: what stands where, and how it is written.

A value in double quotes knows the escapes \\, \", \$ and \`, one in single quotes none; both may go on for
more than one line. Without quotes it ends with its line, or before a blank and a "#".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_ASSIGNMENT = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_]\w*)[ \t]*=[ \t]*
    (?: "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>[^']*)' | (?P<plain>(?:[^\r\n]|\r(?!\n))*) )
    (?:[^\r\n]|\r(?!\n))* (?:\r?\n|\Z)""",
    re.MULTILINE | re.VERBOSE | re.DOTALL | re.ASCII,
)
_IDLE = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
_ESCAPED = re.compile(r'\\([\\"$`])')
_SPECIAL = re.compile(r'[\\"$`]')
_BARE = re.compile(r"[\w./:@%+,=-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one line sets. `begin` and `end` are its places in the text; a value may be a secret."""

    name: str
    value: str = field(repr=False)
    line: int
    begin: int
    end: int
    unclosed: bool = False


@dataclass(frozen=True, slots=True)
class Odd:
    """A line that sets nothing and is no comment."""

    line: int


def read(text: str) -> Iterator[Assignment | Odd]:
    """Read a text, line by line. One of a pair of quotes that is missing makes an `unclosed` value."""
    place, line = 0, 1
    while place < len(text):
        idle, found = _IDLE.match(text, place), _ASSIGNMENT.match(text, place)
        here = idle or found or _LINE.match(text, place)
        if here is None:  # pragma: no cover  # the last pattern takes anything
            return
        if idle is None:
            yield _assignment(found, line) if found else Odd(line)
        line += text.count("\n", place, here.end())
        place = here.end()


def _assignment(found: re.Match[str], line: int) -> Assignment:
    value, unclosed = found["plain"], False
    if found["double"] is not None:
        value = _ESCAPED.sub(r"\1", found["double"])
    elif found["single"] is not None:
        value = found["single"]
    else:
        value = _COMMENT.sub("", value).strip()
        unclosed = value[:1] in {'"', "'"}
    return Assignment(found["name"], value, line, found.start(), found.end(), unclosed)


def written(name: str, value: str, *, quoted: bool = False) -> str:
    """Return the line that sets `name`, in quotes where a shell would take the value for something else."""
    if not quoted and _BARE.fullmatch(value):
        return f"{name}={value}"
    escaped = _SPECIAL.sub(r"\\\g<0>", value)
    return f'{name}="{escaped}"'
