"""Reports: aligned, escaped, and with a line that can be pasted."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree as ET

from flows import evidence, report
from flows.planning import all_offers
from tasks import catalogue
from tasks.contracts import Answer, Change, ProcessState, Route, RunRecord, StoreView
from tasks.detect.example import from_example
from tasks.plan.choose import Request, make_plan
from tests.lab.hosts import make_host


def route() -> Route:
    """Return a route as the gateway leaves it."""
    process = ProcessState(
        "gateway", running=True, state="running", pid=7, started_at=0.0, spec_hash="", log=""
    )
    return Route(
        base_url="http://127.0.0.1:3030/openai/v1",
        models=("tensorzero::embedding_model_name::mini",),
        config="",
        config_hash="ab" * 32,
        process=process,
        answers=(Answer("embeddings of mini", "384", "384", right=True, seconds=0.016),),
        change=Change("process gateway", "keep", "unchanged"),
        seconds=0.1,
    )


def record(error: str = "") -> RunRecord:
    """Return a small record."""
    return RunRecord(
        run="r1",
        version="0",
        host="lab-host",
        started_at="2026-11-23T00:00:00+00:00",
        seconds=1.0,
        outcome="failed" if error else "changed",
        error=error,
        flow_run="f1",
        profile_wanted="auto",
        facts=make_host(),
        route=route(),
    )


def test_columns_are_aligned_and_empty_cells_show() -> None:
    """An empty cell prints as a dash; no line ends in blanks."""
    assert "A   BB\nxy  -\n-   z" == report.columns(("A", "BB"), [("xy", ""), ("", "z")])


def test_what_comes_from_outside_cannot_break_a_table() -> None:
    """Markup, pipes and line breaks in a name stay text."""
    table = evidence.markdown(("Name",), [("<script>alert(1)</script> | `x`\nnext",)])

    assert "<script>" not in table
    assert len(table.splitlines()) == 3
    assert "\\|" in table


def test_an_error_with_markup_stays_text_in_the_artifact() -> None:
    """The error of a run is escaped as well."""
    shown = evidence.markdown_run(record("a <img src=x onerror=y> and ![p](http://x/y.png) failed"))

    assert "<img" not in shown
    assert "[p]" not in shown


def test_the_curl_line_is_one_valid_command() -> None:
    """A shell splits it into the address and a JSON body with the model's full name."""
    words = shlex.split(report.curl_line(route()))

    assert "http://127.0.0.1:3030/openai/v1/embeddings" in words
    assert {"model": "tensorzero::embedding_model_name::mini", "input": "hello"} == json.loads(words[-1])


def test_a_run_shows_where_its_evidence_is() -> None:
    """The text names the run's page in the UI."""
    text = report.format_run(record(), "http://127.0.0.1:4200")

    assert "Evidence: http://127.0.0.1:4200/runs/flow-run/f1" in text
    assert "changed in 1.0 s (run r1)" in text


def test_the_artifact_holds_the_memory_picture() -> None:
    """The picture is in the page itself, so that it needs no file and no address."""
    shelf = catalogue.load(catalogue.DEFAULT)
    facts = from_example(shelf.profiles["rtx-3090-ti"], host="lab-host")
    plan = make_plan(
        facts,
        shelf,
        offers=all_offers(),
        store=StoreView("/store", {}),
        request=Request("rtx-3090-ti"),
    )

    shown = evidence.markdown_run(replace(record(), plan=plan))
    data = re.search(r"\]\(data:image/svg\+xml;base64,([^)]*)\)", shown)

    assert data is not None
    assert ET.fromstring(b64decode(data[1])).tag.endswith("svg")  # noqa: S314  # made here
    assert "**taken**" in shown
    assert "Agent Zero: served" in shown
    assert len(shown) < 100_000
