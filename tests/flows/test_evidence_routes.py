"""The gateway's part of a run's evidence: what it serves, what changed, what services are told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.evidence import markdown_run
from flows.evidence_routes import LONGEST_DIFF, gateway_parts, tier_rows
from tasks.contracts import Answer, PlannedRoute, RouteTier
from tests.lab.routes import CHAT, route, run

MARKDOWN = MarkdownIt("commonmark").enable("table")
DIFF = "--- before\n+++ after\n@@ -1 +1 @@\n-[functions.old]\n+[functions.chat]\n"
FULL = route(
    diff=DIFF,
    watched="10 s: 40 requests, none failed",
    environment=(("TENSORZERO_BASE_URL", "http://127.0.0.1:3030"), ("RERANK_MODEL", "ranker")),
    left_out=("the reranker ranker is called directly",),
    container="pmoves-gateway-g2",
    chosen=("the gateway runs in a container, because the engine answers",),
)


def headings(text: str) -> list[str]:
    """Return the headings that a reader of Markdown sees."""
    return [inside.content for one, inside in pairwise(MARKDOWN.parse(text)) if one.type == "heading_open"]


def test_functions_and_who_answers_them() -> None:
    """In the order in which they are tried; where nothing else is tried for complex requests, so it says."""
    assert tier_rows(FULL) == [
        (
            "chat",
            "webui: talks",
            "local (qwen), then venice (venice/llama)",
            "anthropic (anthropic/claude), then venice (venice/llama), then local (qwen)",
        ),
        ("forms", "archon: fills in forms", "local (qwen)", "the same"),
    ]


def test_what_the_gateway_serves_and_what_was_seen() -> None:
    """One sentence each, before the blocks."""
    first, watched, chosen, *_ = gateway_parts(FULL)

    assert first == (
        "http://127.0.0.1:3030/openai/v1 serves config sha256 abababababab, generation g2 in container"
        " pmoves-gateway-g2, behind haproxy."
    )
    assert watched == "10 s: 40 requests, none failed"
    assert chosen == "- the gateway runs in a container, because the engine answers"


def test_the_page_has_all_parts_in_order() -> None:
    """What is served, what is not, what was asked, what changed, what services are told."""
    page = markdown_run(run(route=FULL))

    shown = headings(page)
    assert shown[shown.index("Gateway") :] == [
        "Gateway",
        "Left out of the gateway",
        "Asked before the switch",
        "What changed in its config",
        "What services are told",
    ]
    assert f"```diff\n{DIFF.strip()}\n```" in page
    assert "```text\nTENSORZERO_BASE_URL=http://127.0.0.1:3030\nRERANK_MODEL=ranker\n```" in page
    assert "- chat: groq: GROQ\\_API\\_KEY is not set\n- the reranker ranker is called directly" in page
    assert "- WRONG: a question to function forms: expected an answer, got\n" in page


def test_a_route_of_an_earlier_version_says_what_it_knows() -> None:
    """No function, no proxy, no diff."""
    old = replace(route(), functions=(), proxy="", generation="", answers=())

    assert gateway_parts(old) == ["http://127.0.0.1:3030/openai/v1 serves config sha256 abababababab."]
    assert "| Function |" not in markdown_run(run(route=old))
    assert "## Gateway" not in markdown_run(run(route=None))


def test_a_long_diff_keeps_its_beginning() -> None:
    """In whole lines, and says how much more there is."""
    long = "".join(f"+line {number}\n" for number in range(4000))

    block = next(part for part in gateway_parts(route(diff=long)) if part.startswith("```diff"))

    lines = block.splitlines()
    assert lines[1] == "+line 0"
    assert len(block) < LONGEST_DIFF + 200
    last = int(lines[-3].removeprefix("+line "))
    assert lines[-2] == f"… {4000 - last - 1} more lines: `pmoves history --json` has them"


TEXTS = st.text(st.sampled_from("`~|#*_[]()<>!&\\\n\r\t\x1b ax-+=1.:"), max_size=40) | st.text(max_size=40)


@settings(deadline=None, max_examples=60)
@given(TEXTS)
@example("--")
@example("1. x")
@example("    x")
@example("```\n# out\n")
@example("x | y\n\n# out")
def test_nothing_from_outside_leaves_its_place(text: str) -> None:
    """Names, answers, sentences and configs come from other programs and from files of other people."""
    odd = PlannedRoute(text, text, "llm", text, tiers=(RouteTier("local", text, text),), left_out=(text,))
    wild = replace(
        FULL,
        functions=(odd,),
        generation=text,
        proxy=text,
        container=text,
        watched=text,
        diff=text,
        environment=((text, text),),
        left_out=(text,),
        chosen=(text,),
        answers=(Answer(text, text, text, right=False, seconds=0),),
    )
    tame = replace(FULL, functions=(CHAT,))

    tokens = MARKDOWN.parse(markdown_run(run(route=wild)))
    kinds = {one.type for one in tokens} | {
        child.type for one in tokens for child in one.children or () if child.type != "softbreak"
    }
    expected = MARKDOWN.parse(markdown_run(run(route=tame)))
    allowed = {one.type for one in expected} | {
        child.type for one in expected for child in one.children or ()
    }
    assert kinds <= allowed | {"text_special"}
    assert [one for one in headings(markdown_run(run(route=wild))) if one == "out"] == []


@pytest.mark.parametrize("sign", ["|", "`", "<b>", "# "])
def test_a_sentence_of_the_watch_stays_text(sign: str) -> None:
    """It may quote the name of a function."""
    page = markdown_run(run(route=route(watched=f"{sign}x")))

    assert headings(page) == headings(markdown_run(run(route=route(watched="x"))))
