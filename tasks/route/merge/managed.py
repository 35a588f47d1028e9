"""A hand-written TensorZero config and ours in one file, and apart again, byte for byte.

Ours is one block of text at the end (`managed_block`). TOML allows that, because a header names its table in
full wherever it stands. tomlkit is not used to write here: it gathers an array of tables that other tables
interrupt, and does not read a byte order mark, so it cannot give back the bytes that it was given. What was
written is read again with tomllib, and must be both parts and nothing else.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tasks.errors import HandWrittenError, RouteError
from tasks.route.merge.block import BOM, INTACT, Parted, lines_of, put_in, take_apart
from tasks.wording import listed, plural

CONFIG = "tensorzero.toml"
NAMED = frozenset(
    (
        "models",
        "embedding_models",
        "functions",
        "metrics",
        "tools",
        "evaluations",
        "provider_types",
        "optimizers",
    )
)
"""Tables whose entries have names of their own. Any other is one thing, and belongs to one writer."""
CLASHES_SHOWN = 5
DEEPEST = 100
"""Chosen: TensorZero's own tables nest less than 20 deep, and our readers make a call for each level."""
INTEGERS = range(-(1 << 63), 1 << 63)
"""What TOML has as an integer (https://toml.io/en/v1.0.0#integer). tomllib takes longer ones in hex."""
DIFF_LINES = 200

_SECRET = re.compile(r"\b(sk-|gsk_|xai-|hf_|tgp_|AIza|Bearer )[\w.-]{8,}")


def merge(hand: str, ours: str, *, name: str = CONFIG) -> str:
    """Return a config with the hand-written part as it is, and ours in a block at its end.

    Args:
        hand: The hand-written config, as `read_hand` gives it. An old block of ours in it is replaced.
        ours: Our tables; nothing stands before the first header.
        name: What to call the hand-written file.

    Raises:
        RouteError: the hand-written part is not TOML, its block is damaged, or both have a name.
    """
    apart = _take_apart(hand, name)
    config, added = parse(apart.hand, name), tomllib.loads(ours)
    _refuse_loose_end(apart, name)
    _refuse_clashes(config, added, apart.hand, name)
    merged = put_in(apart.hand, ours)
    if _load(merged) != _together(config, added):
        raise _cannot_extend(config, added, apart.hand, name)
    return merged


def unmerge(text: str, *, name: str = CONFIG) -> str:
    """Return what was written by hand, byte for byte; all of a text that holds no block of ours.

    Raises:
        RouteError: the block is damaged.
    """
    return _take_apart(text, name).hand


def managed_part(text: str, *, name: str = CONFIG) -> str:
    """Return what stands in our block, without its markers; nothing where there is no block.

    Raises:
        RouteError: the block is damaged.
    """
    lines = lines_of(_take_apart(text, name).block.lstrip("\r\n"))
    return "".join(f"{line}\n" for line in lines[1:-1])


def top_tables(hand: str, *, name: str = CONFIG) -> frozenset[str]:
    """Return the top-level names that the hand-written part defines.

    Raises:
        RouteError: it is not TOML, or its block is damaged.
    """
    return frozenset(parse(unmerge(hand, name=name), name))


def parse(text: str, name: str = CONFIG) -> dict[str, Any]:
    """Read TOML.

    Raises:
        RouteError: it is not TOML, and the sentence has line and column; or it holds what nobody can read.
    """
    try:
        config = tomllib.loads(text.removeprefix(BOM))
    except tomllib.TOMLDecodeError as error:
        raise HandWrittenError(f"{name} is not TOML: {error}", INTACT, f"correct {name} there") from error
    except RecursionError as error:
        raise _unreadable(name, _TOO_DEEP) from error
    except ValueError as error:  # Python reads no integer of more than some thousand digits
        raise _unreadable(name, _TOO_LONG) from error
    if why := _excess(config):
        raise _unreadable(name, why)
    return config


def read_hand(path: Path) -> str:
    """Read a file once, with its line ends as they are.

    Raises:
        RouteError: it cannot be read, or is not text.
    """
    try:
        return path.read_bytes().decode()
    except OSError as error:
        what = f"{path} cannot be read ({error.strerror or error})"
        then = "make it readable, or take its name out of the settings"
        raise HandWrittenError(what, INTACT, then) from error
    except UnicodeDecodeError as error:
        what = f"{path} is not text in UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
        raise HandWrittenError(what, INTACT, f"save {path} as UTF-8") from error


def line_of(text: str, has: Callable[[dict[str, Any]], bool]) -> int:
    """Return the line, from 1, of the statement after which `has` is true of the config so far.

    Ever longer beginnings of the text are read, so the parser itself says where a statement ends.
    """
    lines = [f"{line}\n" for line in text.split("\n")]

    def so_far(count: int) -> bool:
        for more in range(count, len(lines) + 1):
            config = _load("".join(lines[:more]))
            if config is not None:
                return has(config)
        return False

    return bisect_left(range(len(lines) + 1), x=True, key=so_far)


def place_of(text: str, where: tuple[str, ...]) -> int:
    """Return the line in which a config begins to have something at `where`."""

    def has(config: dict[str, Any]) -> bool:
        inside: Any = config
        for key in where:
            if not isinstance(inside, dict) or key not in inside:
                return False
            inside = inside[key]
        return True

    return line_of(text, has)


def diff(before: str, after: str, *, most: int = DIFF_LINES) -> str:
    """Return what changes, as a unified diff of at most `most` lines. What looks like a key is not shown."""
    old, new = (lines_of(_SECRET.sub(r"\1(not shown)", text)) for text in (before, after))
    lines = list(difflib.unified_diff(old, new, "in use", "new", lineterm=""))
    if before != after and not lines:
        lines = ["only line ends or keys differ"]
    kept = list(islice(lines, most))
    if len(lines) > most:
        kept.append(f"… and {plural(len(lines) - most, 'more line')}")
    return "\n".join(kept)


def _take_apart(text: str, name: str) -> Parted:
    return take_apart(text, name, lambda whole, place: _load(whole[:place]) is not None)


def _load(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text.removeprefix(BOM))
    except (ValueError, RecursionError):
        return None


_TOO_DEEP = f"its tables or lists nest more than {DEEPEST} deep"
_TOO_LONG = "it has an integer of more than 64 bits"


def _unreadable(name: str, why: str) -> RouteError:
    return HandWrittenError(f"{name} cannot be read: {why}", INTACT, f"correct {name} there")


def _excess(config: dict[str, Any]) -> str:
    """Say what of a config is too deep or too long to be worked with; nothing where all of it can be."""
    level: list[Any] = [config]
    for _ in range(DEEPEST + 1):
        if any(isinstance(one, int) and one not in INTEGERS for one in level):
            return _TOO_LONG
        inside = (
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        )
        level = [*chain.from_iterable(inside)]
    return _TOO_DEEP if level else ""


def _refuse_loose_end(apart: Parted, name: str) -> None:
    """A key after our block, with no header before it, would mean another table once the block is gone."""
    for number, line in enumerate(lines_of(apart.after), apart.first_line_after):
        words = line.strip()
        if words.startswith("["):
            return
        if words and not words.startswith("#"):
            raise HandWrittenError(
                f"line {number} of {name} stands behind our block and in no table of its own",
                INTACT,
                f"move it above the block in {name}",
            )


def _refuse_clashes(config: dict[str, Any], added: dict[str, Any], hand: str, name: str) -> None:
    clashes = [*_clashes(config, added)]
    if not clashes:
        return
    said = [
        f"line {place_of(hand, where)} of {name} defines {dotted(where)}, "
        f"and so does the managed part{_of_ours(added, where)}"
        for where in clashes[:CLASHES_SHOWN]
    ]
    if len(clashes) > CLASHES_SHOWN:
        said.append(f"{plural(len(clashes) - CLASHES_SHOWN, 'more name')} clash")
    raise HandWrittenError(listed(said), INTACT, f"give them other names in {name}, or take them out there")


def _clashes(config: dict[str, Any], added: dict[str, Any]) -> list[tuple[str, ...]]:
    both = [table for table in added if table in config]
    found: list[tuple[str, ...]] = [(table,) for table in both if table not in NAMED]
    for table in both:
        theirs = config[table]
        if table in NAMED and isinstance(theirs, dict):
            found += [(table, entry) for entry in added[table] if entry in theirs]
    return found


def _of_ours(added: dict[str, Any], where: tuple[str, ...]) -> str:
    """Say what ours is, so that a person finds it: a model by its providers, a function by its tiers."""
    inside: Any = added
    for key in where:
        inside = inside[key]
    for key, noun in (("providers", "provider"), ("variants", "tier")):
        if isinstance(inside, dict) and isinstance(inside.get(key), dict):
            return f" (with the {noun}{'s' * (len(inside[key]) > 1)} {listed(list(inside[key]))})"
    return ""


def dotted(where: tuple[str, ...]) -> str:
    """Write a place as TOML does: bare keys where they can be, others in quotes."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else f'"{key}"' for key in where)


def _together(config: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    both = dict(config)
    for table, entries in added.items():
        theirs = both.get(table)
        both[table] = {**theirs, **entries} if isinstance(theirs, dict) and table in NAMED else entries
    return both


def _cannot_extend(config: dict[str, Any], added: dict[str, Any], hand: str, name: str) -> RouteError:
    for table in added:
        if table in config and not _extends(config[table], hand, table):
            line = place_of(hand, (table,))
            what = f"line {line} of {name} defines {table} in a form that no table can be added to"
            return HandWrittenError(what, INTACT, f"write it as tables there, such as [{table}.name]")
    return HandWrittenError(
        f"{name} and the managed part do not fit into one file",
        INTACT,
        f"write {listed(sorted(added))} in {name} as tables with headers",
    )


def _extends(theirs: object, hand: str, table: str) -> bool:
    if not isinstance(theirs, dict):
        return False
    free = "x" * (max(map(len, theirs), default=0) + 1)
    return _load(f"{hand.rstrip()}\n[{table}.{free}]\n") is not None
