"""profiles/probes/*.yaml -> the questions for a model. An error names file, line and field.

profiles/probes/
<role>.yaml           the questions for a role
<role>-<family>.yaml  those for some models of it, in place of the general ones
assets/               recordings that are sent
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from tasks.contracts import PlannedModel, Role
from tasks.errors import CatalogueError
from tasks.marked_yaml import Document, Steps, refusal
from tasks.shapes import decode
from tasks.verify.probe_shapes import ProbeFile, Question, VisionProbe

DEFAULT = Path(__file__).resolve().parents[2] / "profiles" / "probes"
SECTIONS = tuple(name for name in ProbeFile.__struct_fields__ if name not in {"role", "models"})
FEWEST_DOCUMENTS = 4
_Problem = tuple[Steps, str]


@functools.lru_cache(maxsize=8)
def load(folder: Path = DEFAULT) -> tuple[ProbeFile, ...]:
    """Read every file of questions in `folder`.

    Raises:
        CatalogueError: a file is wrong; the first problem is named by file, line and field.
    """
    found: list[ProbeFile] = []
    taken: dict[tuple[Role, str], str] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
    except OSError as error:
        what = f"{folder}: the folder of questions cannot be read ({error.strerror})"
        raise CatalogueError(what, "nothing was changed", "restore the folder") from None
    for path in paths:
        probes, document = _read(path, str(path.relative_to(folder.parent.parent)))
        for steps, problem in _problems(probes, folder):
            raise document.error(steps, problem)
        for pattern in probes.models or ("",):
            other = taken.setdefault((probes.role, pattern), document.name)
            if other != document.name:
                of = f'of "{pattern}"' if pattern else "of every model"
                raise document.error(
                    ("role",), f"{other} has the questions for the {probes.role} {of} already"
                )
        found.append(probes)
    return tuple(found)


def questions(
    planned: PlannedModel, files: tuple[ProbeFile, ...]
) -> tuple[tuple[Role, ProbeFile | None], ...]:
    """Return the questions for each role of a model; None where there are none. No section comes twice."""
    found: list[tuple[Role, ProbeFile | None]] = []
    for role in dict.fromkeys((planned.role, *planned.also)):
        probes = _for(role, planned.model, files)
        earlier = [other for _, other in found if other is not None]
        found.append((role, probes and _without(probes, earlier)))
    return tuple(found)


def asset(name: str, folder: Path = DEFAULT) -> bytes:
    """Return a recording that comes with the questions.

    Raises:
        CatalogueError: it cannot be read.
    """
    path = folder / "assets" / name
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"{path}: the recording cannot be read ({error.strerror})"
        raise CatalogueError(what, "nothing was changed", "restore the file") from None


def _for(role: Role, model: str, files: tuple[ProbeFile, ...]) -> ProbeFile | None:
    """Return the file whose pattern is nearest to the name: the name itself, then the longest."""
    matching = [
        ((pattern == model, len(pattern)), probes)
        for probes in files
        if probes.role == role
        for pattern in probes.models or ("",)
        if not pattern or fnmatchcase(model, pattern)
    ]
    return max(matching, key=lambda one: one[0])[1] if matching else None


def _without(probes: ProbeFile, earlier: list[ProbeFile]) -> ProbeFile:
    """Leave out what a model was asked already for another of its roles, and a second long text."""
    for other in earlier:
        same = [name for name in SECTIONS if getattr(probes, name) == getattr(other, name)]
        if other.context is not None:
            same.append("context")
        probes = msgspec.structs.replace(probes, **dict.fromkeys(same))
    return probes


def _read(path: Path, name: str) -> tuple[ProbeFile, Document]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise refusal(name, f"the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise refusal(name, f"byte {error.start} is not UTF-8 text") from None
    return decode(text, ProbeFile, name=name)


def _problems(probes: ProbeFile, folder: Path) -> Iterator[_Problem]:
    """Yield what a shape cannot say."""
    if not any(getattr(probes, name) for name in SECTIONS):
        yield ("role",), f"there is no question; a file has one of {', '.join(SECTIONS)}"
    for steps, question in _questions(probes):
        yield from _pattern((*steps, "accepts"), question.accepts)
    if probes.vision is not None:
        yield from _vision(probes.vision)
    if probes.reranker is not None:
        count = len(probes.reranker.documents)
        if count < FEWEST_DOCUMENTS:
            yield ("reranker", "documents"), f"there must be {FEWEST_DOCUMENTS} documents or more"
        for place, search in enumerate(probes.reranker.searches):
            if not 0 <= search.right < count:
                yield ("reranker", "searches", place, "right"), f"there are only documents 0 to {count - 1}"
    name = probes.whisper.recording if probes.whisper else None
    if name is not None and (Path(name).name != name or not (folder / "assets" / name).is_file()):
        yield ("whisper", "recording"), f"there is no file assets/{name}"


def _questions(probes: ProbeFile) -> Iterator[tuple[Steps, Question]]:
    for place, question in enumerate(probes.chat.questions if probes.chat else ()):
        yield ("chat", "questions", place), question


def _vision(vision: VisionProbe) -> Iterator[_Problem]:
    for key in ("colours", "shapes", "words"):
        for place, one in enumerate(getattr(vision, key)):
            yield from _pattern(("vision", key, place, "accepts"), one.accepts)
    for place, colour in enumerate(vision.colours):
        if not re.fullmatch(r"[0-9a-f]{6}", colour.rgb):
            yield (
                ("vision", "colours", place, "rgb"),
                "a colour has six hex digits (in quotes), such as d02020",
            )
    if not (vision.ask_colour or vision.ask_shape or vision.ask_word):
        yield ("vision",), "nothing is asked: one of ask_colour, ask_shape, ask_word is needed"


def _pattern(steps: Steps, pattern: str) -> Iterator[_Problem]:
    try:
        re.compile(pattern)
    except re.error as error:
        yield steps, f"this is not a pattern: {error}"
