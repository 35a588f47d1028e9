"""Right answers by rule: small questions are solved, facts are searched for in the prompt.

It knows what a question asks from its words alone, so another wording may find it at a loss ("I do not
know.").
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise

from .coding import code
from .meaning import STOP, content, stem

UNKNOWN = "I do not know."
MOST_FACTS = 4
_ASKS_SEVERAL = re.compile(r"\b(?:two|both|each|numbers|all)\b", re.IGNORECASE)
FACTS = {
    "capital france": "Paris",
    "capital germany": "Berlin",
    "capital italy": "Rome",
    "capital spain": "Madrid",
    "capital japan": "Tokyo",
    "days week": "7",
    "opposite hot": "cold",
    "opposite up": "down",
    "opposite black": "white",
    "colour sky": "blue",
    "color sky": "blue",
    "legs spider": "8",
    "months year": "12",
    "largest planet": "Jupiter",
    "chemical symbol water": "H2O",
    "chemical formula water": "H2O",
}
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
NUMBERS = {word: number for number, word in enumerate(_NUMBER_WORDS.split())}
_OPERATORS = {
    "+": "+",
    "plus": "+",
    "-": "-",
    "minus": "-",
    "*": "*",
    "x": "*",
    "times": "*",
    "multiplied by": "*",
    "/": "/",
    "÷": "/",
    "divided by": "/",
}
_NUMBER = rf"(?:\d[\d,]*(?:\.\d+)?|{'|'.join(NUMBERS)})"
_SIGN = r"(?:\+|-|\*|x|/|÷|plus|minus|times|multiplied by|divided by)"
_SUM = re.compile(rf"(?<![\w.-])({_NUMBER}(?:\s*{_SIGN}\s*{_NUMBER})+)(?![\w-])", re.IGNORECASE)
_QUOTED = r"[\"'`]([^\"'`]+)[\"'`]"
_REPEAT = re.compile(
    rf"\b(?:repeat|reply|say|echo|answer|respond|write|output|print|return)\b[^.?!\n]{{0,60}}?(?:{_QUOTED})",
    re.IGNORECASE,
)
_REPEAT_BARE = re.compile(
    r"\b(?:repeat|reply|say|echo|answer|respond|write)\b[^.?!:\n]{0,40}?"
    r"(?:\bword\b|\bwith\b|\bexactly\b|:)\s*(?:the (?:single )?word\s+)?:?\s*([\w-]+)\s*[.!]?\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def tokens(text: str) -> list[str]:
    """Cut a text into what counts as its tokens here: words, and single signs."""
    return re.findall(r"\w+|[^\w\s]", text)


def newest(text: str, count: int) -> str:
    """Return the last `count` tokens of a text, as it is written."""
    starts = [match.start() for match in re.finditer(r"\w+|[^\w\s]", text)]
    return text if len(starts) <= count else text[starts[-count] :] if count > 0 else ""


def first(text: str, count: int) -> str:
    """Return the first `count` tokens of a text, as it is written."""
    ends = [match.end() for match in re.finditer(r"\w+|[^\w\s]", text)]
    return text if len(ends) <= count else text[: ends[count - 1]] if count > 0 else ""


# --- chat --------------------------------------------------------------------------------------------


def answer(text: str) -> str:
    """Answer the question at the end of a prompt.

    Args:
        text: All that was said, the question last; what stands before it is searched for facts.
    """
    question = _question(text)
    for rule in (
        code,
        _repeated,
        _json,
        _counted,
        _alphabet,
        _calculated,
        _sequence,
        _letters,
        _found,
        _known,
    ):
        if found := rule(question, text):
            return found
    return UNKNOWN


def _question(text: str) -> str:
    """Return the last paragraph: what is asked stands there, or the whole is short."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    last = paragraphs[-1] if paragraphs else ""
    if len(tokens(last)) <= 120:  # a paragraph of a long text is longer
        return last
    sentences = _sentences(last)
    return " ".join(sentences[-2:])


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _repeated(question: str, _text: str) -> str:
    if found := _REPEAT.search(question):
        return found[1].strip()
    if (found := _REPEAT_BARE.search(question)) and found[1].lower() not in {*STOP, "number", "word", "name"}:
        return found[1]
    return ""


def _json(question: str, _text: str) -> str:
    found = re.search(
        r"json\b.*?\bkey\b\s*[\"'`]?(\w+)[\"'`]?.*?\bvalue\b\s*[\"'`]?(\w+)",
        question,
        re.IGNORECASE | re.DOTALL,
    )
    if found is None:
        return ""
    value = found[2] if found[2].isdigit() else f'"{found[2]}"'
    return f'{{"{found[1]}": {value}}}'


def _calculated(question: str, _text: str) -> str:
    found = _SUM.search(question)
    if found is None:
        return ""
    parts = re.split(rf"\s*({_SIGN})\s*", found[1], flags=re.IGNORECASE)
    values = [_value(part) for part in parts[::2]]
    signs = [_OPERATORS[part.lower()] for part in parts[1::2]]
    for place in range(len(signs) - 1, -1, -1):
        _fold(values, signs, _first_strong(signs) if set("*/") & set(signs) else 0)
        if not signs or place == 0:
            break
    return f"{values[0]:g}" if values[0] % 1 or abs(values[0]) >= 1e15 else str(int(values[0]))


def _first_strong(signs: list[str]) -> int:
    return next(place for place, sign in enumerate(signs) if sign in "*/")


def _fold(values: list[float], signs: list[str], place: int) -> None:
    left, right = values[place], values.pop(place + 1)
    sign = signs.pop(place)
    results = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "/": left / right if right else math.inf,
    }
    values[place] = results[sign]


def _value(text: str) -> float:
    return float(NUMBERS.get(text.lower(), 0) if text.lower() in NUMBERS else text.replace(",", ""))


def _sequence(question: str, _text: str) -> str:
    found = re.search(r"((?:-?\d+\s*,\s*){2,}-?\d+)", question)
    if found is None:
        return ""
    numbers = [int(part) for part in found[1].split(",")]
    return next((look(numbers) for wanted, look in _LISTS if re.search(wanted, question, re.IGNORECASE)), "")


def _next(numbers: list[int]) -> str:
    steps = {after - before for before, after in pairwise(numbers)}
    if len(steps) == 1:
        return str(numbers[-1] + steps.pop())
    if all(before and after % before == 0 for before, after in pairwise(numbers)):
        return str(numbers[-1] * (numbers[1] // numbers[0]))
    return ""


_LISTS: tuple[tuple[str, Callable[[list[int]], str]], ...] = (
    (r"\bnext\b", _next),
    (r"larg|bigg|greatest|highest", lambda numbers: str(max(numbers))),
    (r"smallest|least|lowest", lambda numbers: str(min(numbers))),
    (r"\bsum\b|\badd\b|\btotal\b", lambda numbers: str(sum(numbers))),
    (r"descend", lambda numbers: ", ".join(map(str, sorted(numbers, reverse=True)))),
    (r"\bsort|\border\b", lambda numbers: ", ".join(map(str, sorted(numbers)))),
)


def _letters(question: str, _text: str) -> str:
    word = re.search(rf"\bword\s+(?:{_QUOTED}|(\w+))", question, re.IGNORECASE)
    if word is None:
        return ""
    text = word[1] or word[2]
    if re.search(r"\bbackwards?\b|\brevers", question, re.IGNORECASE):
        return text[::-1]
    if letter := re.search(
        rf"how many\s+(?:times\s+)?(?:does\s+)?(?:the\s+)?(?:letters?\s+)?(?:{_QUOTED}|(\w))\b",
        question,
        re.IGNORECASE,
    ):
        wanted = (letter[1] or letter[2]).lower()
        if len(wanted) == 1:
            return str(text.lower().count(wanted))
    if re.search(r"how many letters", question, re.IGNORECASE):
        return str(len(text))
    for word_of, place in (("first letter", 0), ("last letter", -1)):
        if re.search(word_of, question, re.IGNORECASE):
            return text[place]
    return ""


def _found(question: str, text: str) -> str:
    """Look for the sentences that have most of the question's words, and return what they say of them."""
    asked = content(question)
    place = text.rfind(question)
    before = _sentences(text[:place]) if place > 0 else _sentences(question)[:-1]
    before = [one for one in before if not one.endswith("?")]
    if not asked or not before:
        return ""
    shared = [len(asked & content(one)) for one in before]
    most = max(shared)
    if most < max(1, math.ceil(len(asked) / 3)):
        return ""
    best = [one for one, count in zip(before, shared, strict=True) if count == most]
    values = dict.fromkeys(_value_of(one) for one in best[:MOST_FACTS])
    return ", ".join(values if _ASKS_SEVERAL.search(question) else list(values)[:1])


def _value_of(sentence: str) -> str:
    found = re.search(
        r"(?:\bis\b|\bare\b|\bwas\b|[:=])\s*(?:the\s+)?[\"'`]?([^.?!\"'`]+)[\"'`]?[.?!]?$", sentence
    )
    return found[1].strip() if found else sentence


def _counted(question: str, _text: str) -> str:
    found = re.search(r"count from (\d+) to (\d+)", question, re.IGNORECASE)
    return " ".join(str(number) for number in range(int(found[1]), int(found[2]) + 1)) if found else ""


def _alphabet(question: str, _text: str) -> str:
    found = re.search(
        r"letter comes \w* ?(after|before) (?:the letter )?[\"']?([a-z])\b", question, re.IGNORECASE
    )
    if found is None:
        return ""
    return chr(ord(found[2].upper()) + (1 if found[1].lower() == "after" else -1))


def _known(question: str, _text: str) -> str:
    words = content(question) | set(re.findall(r"\w+", question.lower()))
    for key, value in FACTS.items():
        if {stem(part) for part in key.split()} <= {stem(word) for word in words}:
            return value
    return ""
