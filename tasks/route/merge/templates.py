"""Files that a config names: prompts, schemas, folders of them. TensorZero reads them once, when it starts.

A generation must not change when such a file does, so it gets copies at the same relative places.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import HandWrittenError, RouteError
from tasks.route.merge.block import INTACT
from tasks.route.merge.managed import dotted
from tasks.wording import MIB, gib

LARGEST_FILE_BYTES = 16 * MIB
"""Chosen: prompts and schemas are a few KiB; what is far larger was named by mistake."""
MOST_FILES = 2000

_WHY = {RuntimeError: "it is a link to itself", ValueError: "it is no path"}

Place = tuple[str, ...]

_VARIANT = ("functions", "*", "variants", "*")
_JUDGES = (("functions", "*", "evaluators", "*"), ("evaluations", "*", "evaluators", "*"))
_COMPLETIONS: tuple[Place, ...] = (
    _VARIANT,
    (*_VARIANT, "evaluator"),
    (*_VARIANT, "fuser"),
    *((*judge, "variants", "*", *part) for judge in _JUDGES for part in ((), ("evaluator",), ("fuser",))),
)
_OF_A_COMPLETION: tuple[Place, ...] = (
    ("system_template",),
    ("user_template",),
    ("assistant_template",),
    ("system_instructions",),
    ("templates", "*", "path"),
    ("input_wrappers", "*"),
)
PLACES: tuple[Place, ...] = (
    ("gateway", "template_filesystem_access", "base_path"),
    ("functions", "*", "system_schema"),
    ("functions", "*", "user_schema"),
    ("functions", "*", "assistant_schema"),
    ("functions", "*", "output_schema"),
    ("functions", "*", "schemas", "*", "path"),
    ("tools", "*", "parameters"),
    *((*judge, "typescript_file") for judge in _JUDGES),
    *((*owner, *part) for owner in _COMPLETIONS for part in _OF_A_COMPLETION),
)
"""Where a config has the path of a file or folder; "*" is any name. Elsewhere the same words are no paths."""


def named_files(config: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the relative paths that a config names, each once."""
    return tuple(dict.fromkeys(path for _, path in _named(config) if not path.is_absolute()))


def copy_named_files(config: Mapping[str, Any], source: Path, target: Path) -> tuple[Path, ...]:
    """Copy what a config names from one folder to the same places in another; return what was copied.

    Each file is read once, so that a copy is never half of one text and half of another. Absolute paths mean
    the same from everywhere, and stay as they are.

    Raises:
        RouteError: a path leads out of the folder, a file is missing, or it is none that can be copied.
    """
    copied: dict[Path, bytes] = {}
    for place, path in _named(config):
        if path.is_absolute():
            continue
        for one in _below(source, path, place):
            if one not in copied:
                if len(copied) == MOST_FILES:
                    raise _refused(
                        place, path, f"holds more than {MOST_FILES} files", "name a smaller folder"
                    )
                copied[one] = _read(source, one, place)
    for one, content in copied.items():
        there = target / one
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)
    return tuple(copied)


def _below(source: Path, path: Path, place: Place) -> Iterator[Path]:
    """Yield the files that a path means, relative to `source`."""
    if ".." in path.parts or not path.parts:
        raise _refused(
            place, path, "leads out of its folder", "move it below the config, or write an absolute path"
        )
    root = source.resolve()
    try:
        real = (source / path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", "") or _WHY[type(error)]
        raise _refused(
            place, path, f"cannot be read ({why})", f"put it below {source}, or correct the path"
        ) from error
    if not real.is_relative_to(root):
        raise _refused(place, path, f"is a link to {real}", "write that path, or put the file itself there")
    if not real.is_dir():
        yield path
        return
    for folder, _, names in os.walk(real):
        for name in sorted(names):
            yield path / (Path(folder) / name).relative_to(real)


def _read(source: Path, path: Path, place: Place) -> bytes:
    """Read one file. A pipe or a device is never opened for long, and nothing that is too large is read."""
    try:
        real = (source / path).resolve(strict=True)
        if not real.is_relative_to(source.resolve()):
            raise _refused(
                place, path, f"is a link to {real}", "write that path, or put the file itself there"
            )
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refused(place, path, "is no file", "name a file there")
            content = stream.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        then = f"put it below {source}, or correct the path"
        raise _refused(place, path, f"cannot be read ({error.strerror or error})", then) from error
    if len(content) > LARGEST_FILE_BYTES:
        raise _refused(place, path, f"has more than {gib(LARGEST_FILE_BYTES)}", "name another file there")
    return content


def _named(config: Mapping[str, Any]) -> Iterator[tuple[Place, Path]]:
    for pattern in PLACES:
        yield from _at(config, pattern, ())


def _at(inside: object, pattern: Place, place: Place) -> Iterator[tuple[Place, Path]]:
    if not pattern:
        if isinstance(inside, str):
            yield place, Path(inside)
    elif isinstance(inside, Mapping):
        for key in inside if pattern[0] == "*" else (pattern[0],):
            if key in inside:
                yield from _at(inside[key], pattern[1:], (*place, key))


def _refused(place: Place, path: Path, what: str, then: str) -> RouteError:
    return HandWrittenError(f"{str(path)!r}, which {dotted(place)} names, {what}", INTACT, then)
