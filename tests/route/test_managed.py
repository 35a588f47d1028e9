"""A hand-written config and ours in one file: the person's stays as it is, and comes back without ours."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tasks.errors import RouteError
from tasks.route.merge.block import BEGIN, BOM, END
from tasks.route.merge.managed import (
    diff,
    line_of,
    managed_part,
    merge,
    parse,
    place_of,
    read_hand,
    top_tables,
    unmerge,
)
from tests.lab.toml_texts import documents

OURS = """\
# Ours.
[models.ours]
routing = ["ollama"]
[models.ours.providers.ollama]
type = "openai"
model_name = "qwen3:8b"

[functions.ours]
type = "chat"
"""
OLD = OURS.replace("qwen3:8b", "qwen2:7b")
HAND = """\
# Mine. Do not sort!
[gateway]
observability.enabled   =   false   # on purpose

[[rate_limiting.rules]]
always = true

[models."my/model:1.5"]
routing = [ 'a',
            "b" ]  # in this order

[[rate_limiting.rules]]
priority = 1
"""


def read(text: str) -> dict[str, Any]:
    """Read TOML as the gateway does, which takes a byte order mark."""
    return tomllib.loads(text.removeprefix(BOM))


PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PATIENT
@given(documents())
def test_nothing_of_the_hand_is_touched(hand: str) -> None:
    """Whatever a person wrote stands at the beginning, the file means both, and it comes back."""
    assume(_fits(hand))
    merged = merge(hand, OURS)

    assert merged.startswith(hand)
    assert hand == unmerge(merged)
    assert read(merged) == _both(read(hand), read(OURS))
    assert merged == merge(merged, OURS)
    assert merged == merge(merge(hand, OLD), OURS)


@PATIENT
@given(documents())
def test_a_file_without_a_block_is_all_hand(hand: str) -> None:
    """Taking ours out of what holds nothing of ours changes nothing, whatever its strings look like."""
    assert hand == unmerge(hand)


@PATIENT
@given(documents(), st.integers(0, 10**6))
def test_a_line_is_where_it_begins(hand: str, pick: int) -> None:
    """A name is found in the line that first has it: the file up to the line before does not."""
    config = read(hand)
    assume(config)
    name = sorted(config)[pick % len(config)]
    lines = hand.split("\n")
    line = place_of(hand, (name,))

    assert 1 <= line <= len(lines)
    assert name not in read("".join(f"{one}\n" for one in lines[: line - 1]))
    assert line == line_of(hand, lambda so_far: name in so_far)


def _fits(hand: str) -> bool:
    config = read(hand)
    models, functions = config.get("models", {}), config.get("functions", {})
    return isinstance(models, dict) and isinstance(functions, dict)


def _both(hand: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    return {**hand, **{table: {**hand.get(table, {}), **entries} for table, entries in ours.items()}}


def test_what_a_merged_file_looks_like() -> None:
    """Ours is one block at the end, which says whose it is."""
    assert f"{HAND}\n{BEGIN}\n{OURS}{END}\n" == merge(HAND, OURS)


def test_nothing_by_hand() -> None:
    """Without a hand-written part the file is ours alone, and nothing is left without it."""
    merged = merge("", OURS)

    assert f"{BEGIN}\n{OURS}{END}\n" == merged
    assert unmerge(merged) == ""


def test_mark_that_an_editor_put_before_the_block() -> None:
    """A file that is ours alone, saved with a byte order mark, still has our block."""
    assert unmerge(BOM + merge("", OURS)) == BOM
    assert unmerge(merge(unmerge(BOM + merge("", OURS)), OURS)) == BOM


def test_lines_are_those_of_toml() -> None:
    """What other programs take for the end of a line is part of it."""
    ours = OURS.replace("# Ours.", "# Ours.\N{LINE SEPARATOR}\x85 not a key")

    assert managed_part(merge(HAND, ours)) == ours


def test_windows_lines() -> None:
    """A file with CRLF line ends gets our lines with them as well."""
    hand = HAND.replace("\n", "\r\n")
    merged = merge(hand, OURS)

    assert "\n" not in merged.replace("\r\n", "")
    assert hand == unmerge(merged)


@pytest.mark.parametrize(
    "hand", ["a = 1", "a = 1\n", "\n", BOM, f"{BOM}a = 1", "# only a word", "a = 1\r\nb = 2"]
)
def test_ends_of_files(hand: str) -> None:
    """With a last line end or without, with a byte order mark or without."""
    assert hand == unmerge(merge(hand, OURS))


def test_what_was_added_behind_the_block_is_kept() -> None:
    """A table that a person adds at the end of the merged file is theirs."""
    merged = merge("a = 1\n", OURS) + "[metrics.mine]\ntype = 'float'\n"

    assert unmerge(merged) == "a = 1\n[metrics.mine]\ntype = 'float'\n"
    assert merge(merged, OURS) == merge("a = 1\n[metrics.mine]\ntype = 'float'\n", OURS)


def test_added_behind_a_block_without_a_line_end() -> None:
    """Two lines never become one."""
    assert unmerge(merge("a = 1", OURS) + "[b]\n") == "a = 1\n[b]\n"


def test_key_behind_the_block() -> None:
    """A key behind the block belongs to our last table; without the block it would belong to another."""
    with pytest.raises(RouteError) as caught:
        merge(merge("[a]\n", OURS) + "# mine\ndescription = 'x'\n", OURS, name="mine.toml")

    assert str(caught.value) == (
        "line 15 of mine.toml stands behind our block and in no table of its own; "
        "the routes in use are unchanged; move it above the block in mine.toml."
    )


def test_changes_inside_the_block_are_lost() -> None:
    """The markers say so; even a change that is no TOML."""
    merged = merge(HAND, OURS)

    assert merged == merge(merged.replace('"chat"', '"""chat\n['), OURS)


def test_markers_in_strings() -> None:
    """A text that shows our markers inside of a string is the person's."""
    hand = f'a = """\n{BEGIN}\n{END}\n"""\n'

    assert hand == unmerge(hand)
    assert hand == unmerge(merge(hand, OURS))
    behind = merge("", OURS) + f'[b]\na = """\n{BEGIN}\n{END}\n"""\n'
    assert f'[b]\na = """\n{BEGIN}\n{END}\n"""\n' == unmerge(behind)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"a = 1\n{BEGIN}\n[models.m]\n", "(line 2) begins a block that nothing ends"),
        (f"a = 1\n\n{END}\n", "(line 3) ends a block that nothing begins"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "(line 2) stands inside of a block"),
        (f"{BEGIN}\n{END}\n[a]\n{BEGIN}\n{END}\n", "(line 4) stands behind a block"),
        (f"{BEGIN}\n{END}\n{END}\n", "(line 3) stands behind a block"),
        (f"{END}\n{BEGIN}\n{END}\n", "(line 1) ends a block that nothing begins"),
    ],
)
def test_damaged_block(text: str, said: str) -> None:
    """A marker too few or too many is a sentence with its line; nothing is guessed."""
    with pytest.raises(RouteError) as caught:
        unmerge(text, name="mine.toml")

    assert caught.value.what == f"a marker of pmoves-provisioner in mine.toml {said}"


AND_OURS = "and so does the managed part"
MODEL = f"{AND_OURS} (with the provider ollama)"
NO_TABLE = "in a form that no table can be added to"


@pytest.mark.parametrize(
    ("hand", "said"),
    [
        ("x = 1\n[models.ours]\n", f"line 2 of m.toml defines models.ours, {MODEL}"),
        ("[models]\n\nours.routing = []\n", f"line 3 of m.toml defines models.ours, {MODEL}"),
        ("models = { ours = 1 }\n", f"line 1 of m.toml defines models.ours, {MODEL}"),
        (
            's = """\n[models.ours]\n"""\n[functions."ours"]\n',
            f"line 4 of m.toml defines functions.ours, {AND_OURS}",
        ),
        (
            "[functions.ours.variants.v]\n[models.ours.providers.p]\n",
            f"line 2 of m.toml defines models.ours, {MODEL} and line 1 of m.toml defines functions.ours, "
            + AND_OURS,
        ),
        ("models = { mine = 1 }\n", f"line 1 of m.toml defines models {NO_TABLE}"),
        ("a = 1\nfunctions = 1\n", f"line 2 of m.toml defines functions {NO_TABLE}"),
        ("[[models]]\n", f"line 1 of m.toml defines models {NO_TABLE}"),
        ("functions = []\n", f"line 1 of m.toml defines functions {NO_TABLE}"),
    ],
)
def test_names_that_both_have(hand: str, said: str) -> None:
    """A clash names the line in the hand-written file and what of ours it is."""
    with pytest.raises(RouteError) as caught:
        merge(hand, OURS, name="m.toml")

    assert caught.value.what == said


def test_one_thing_has_one_writer() -> None:
    """A table that is one thing, such as the gateway's own, is not put together from two hands."""
    with pytest.raises(RouteError, match=r"line 2 of tensorzero\.toml defines gateway, and so does"):
        merge("\n[gateway]\n", "[gateway]\ndebug = false\n")


def test_many_clashes_are_counted() -> None:
    """Not every one of many clashes is named."""
    many = "".join(f"[models.m{n}]\n" for n in range(8))

    with pytest.raises(RouteError, match=r"and 3 more names clash; the routes in use are unchanged;"):
        merge(many, many)


def test_dotted_keys_can_be_extended() -> None:
    """Tables that dotted keys define take others beside them."""
    hand = "models.mine.routing = ['a']\n"

    assert hand == unmerge(merge(hand, OURS))


def test_broken_hand_written_file() -> None:
    """The parser's words have line and column."""
    with pytest.raises(RouteError) as caught:
        merge("[gateway]\nobservability.enabled = flase\n", OURS, name="mine.toml")

    assert str(caught.value) == (
        "mine.toml is not TOML: Invalid value (at line 2, column 25); the routes in use are unchanged; "
        "correct mine.toml there."
    )


DEEP = "its tables or lists nest more than 100 deep"
LONG = "it has an integer of more than 64 bits"


@pytest.mark.parametrize(
    ("hand", "said"),
    [
        ("a = " + "[" * 3000, DEEP),
        ("a = " + "[" * 3000 + "]" * 3000, DEEP),
        ("a = " + "{a = " * 3000 + "1" + "}" * 3000, DEEP),
        ("[" + ".".join("a" * 3000) + "]", DEEP),
        ("[" + ".".join("a" * 101) + "]", DEEP),
        ("a = " + "1" * 5000, LONG),
        ("a = [0x" + "f" * 5000 + "]", LONG),
        ("a = 9223372036854775808", LONG),
        ("a.b = -9223372036854775809", LONG),
    ],
    ids=lambda text: text[:12],
)
def test_what_nobody_can_read(hand: str, said: str) -> None:
    """What is nested or long beyond use is one sentence, from whichever place the text is looked at."""
    for look in (lambda: parse(hand, "mine.toml"), lambda: merge(hand, OURS, name="mine.toml")):
        with pytest.raises(RouteError) as caught:
            look()

        assert str(caught.value) == (
            f"mine.toml cannot be read: {said}; the routes in use are unchanged; correct mine.toml there."
        )
    assert unmerge(f"{hand}\n{BEGIN}\n{END}\n") in {hand, f"{hand}\n{BEGIN}\n{END}\n"}


def test_what_is_just_not_too_much() -> None:
    """The longest integers of TOML and a hundred tables in each other are read."""
    deep = "[" + ".".join("a" * 99) + "]\nb = 9223372036854775807\nc = -9223372036854775808\n"

    assert parse(deep) == tomllib.loads(deep)
    assert unmerge(merge(deep, OURS)) == deep


@pytest.mark.parametrize("hand", ["", HAND, HAND.replace("\n", "\r\n"), "a = 1", BOM])
def test_managed_part(hand: str) -> None:
    """What stands in the block can be had alone; a text without one has none."""
    assert managed_part(merge(hand, OURS)) == OURS
    assert managed_part(hand) == ""


def test_top_tables() -> None:
    """What ours has to leave out; an old block of ours does not count."""
    assert top_tables(merge(HAND, OURS + "[metrics.m]\n")) == {"gateway", "rate_limiting", "models"}


def test_reading_keeps_bytes(tmp_path: Path) -> None:
    """A file is read as it is, line ends and mark included."""
    path = tmp_path / "t.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\n")

    assert read_hand(path) == f"{BOM}a = 1\r\nb = 2\n"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"a = '\xff'", r"is not text in UTF-8: byte 5 is 0xff"),
    ],
)
def test_unreadable(tmp_path: Path, raw: bytes | None, said: str) -> None:
    """A file that is not there or no text is one sentence."""
    path = tmp_path / "t.toml"
    if raw is not None:
        path.write_bytes(raw)

    with pytest.raises(RouteError, match=said):
        read_hand(path)


def test_diff() -> None:
    """What changes, and no more of it than a person reads."""
    shown = diff(merge(HAND, OLD), merge(HAND, OURS))

    assert "--- in use\n+++ new\n" in shown
    assert '-model_name = "qwen2:7b"\n+model_name = "qwen3:8b"' in shown
    assert diff(HAND, HAND) == ""
    assert diff("", "a\n" * 300, most=10).splitlines()[-1] == "… and 293 more lines"


def test_diff_shows_no_keys() -> None:
    """A key that somebody wrote into the file is not shown; that it changed is."""
    shown = diff("k = 'sk-aaaaaaaaaaaaaaaa'\n", "k = 'sk-bbbbbbbbbbbbbbbb'\n")

    assert shown == "only line ends or keys differ"
    assert "+k = 'sk-(not shown)'" in diff("", "k = 'sk-proj-abc_DEF.123'\n")
