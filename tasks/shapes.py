"""Plain data -> a typed record; what does not fit is said in words, with file, line and field."""

from __future__ import annotations

import re
import types
import typing
from typing import TypeVar

import msgspec

from tasks.marked_yaml import Document, Steps, parse
from tasks.wording import meant

S = TypeVar("S", bound=msgspec.Struct)

_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected `(.+?)`, got `(.+?)`")
_CHOICE = re.compile(r"Invalid enum value .*", re.DOTALL)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}


def decode(text: str, shape: type[S], *, name: str) -> tuple[S, Document]:
    """Parse YAML and give it its shape.

    Raises:
        CatalogueError: the text is not YAML, or not of this shape.
    """
    document = parse(text, name=name)
    try:
        return msgspec.convert(document.data, shape), document
    except msgspec.ValidationError as error:
        raise document.error(*_explain(str(error), document.data, shape)) from None


def _explain(message: str, data: object, shape: object) -> tuple[Steps, str]:
    """Turn msgspec's message into where it is and a sentence for a person."""
    said, _, path = message.rpartition(" - at `$")
    said, steps = (said, _steps(path)) if said else (message, ())
    expected = _shape_at(shape, steps)
    if match := _UNKNOWN.fullmatch(said):
        return (*steps, match[1]), f"there is no such field{meant(match[1], _field_names(expected))}"
    if match := _MISSING.fullmatch(said):
        digest = match[1] == "sha256"
        return (*steps, match[1]), "a catalogue entry without a digest" if digest else "the field is missing"
    if match := _EXPECTED.fullmatch(said):
        quotes = (
            " (put it in quotes)"
            if match[1].startswith("str") and match[2] in {"int", "float", "bool"}
            else ""
        )
        return steps, f"must be {_in_words(match[1])}, not {_in_words(match[2])}{quotes}"
    if _CHOICE.fullmatch(said):
        got, choices = str(_value_at(data, steps)), [str(choice) for choice in typing.get_args(expected)]
        return steps, f'"{got}" is not one of {", ".join(choices)}{meant(got, choices)}'
    return steps, said


def _steps(path: str) -> Steps:
    """Turn ".bundle[0].role`" into ("bundle", 0, "role")."""
    return tuple(int(index) if index else name for name, index in _STEP.findall(path.rstrip("`")))


def _shape_at(shape: object, steps: Steps) -> object:
    """Return the declared type of the value at `steps`, without `None`."""
    for step in steps:
        inner = typing.get_args(shape)[0] if isinstance(step, int) else typing.get_type_hints(shape)[step]
        shape = _required(inner)
    return shape


def _required(hint: object) -> object:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _field_names(shape: object) -> tuple[str, ...]:
    is_shape = isinstance(shape, type) and issubclass(shape, msgspec.Struct)
    return tuple(typing.get_type_hints(shape)) if is_shape else ()


def _value_at(data: object, steps: Steps) -> object:
    for step in steps:
        data = data[step]  # type: ignore[index]  # msgspec walked the same steps before
    return data


def _in_words(kinds: str) -> str:
    """Turn "str | null" into "text or empty"."""
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds.split(" | "))
