"""A run's evidence: what went wrong first, where models lie, images, the timeline; all of it stays text."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows import evidence, report
from flows.evidence_servers import difference, image_lines, lie_rows
from flows.evidence_text import LONGEST_TAIL, escape, fenced
from flows.measured import known
from flows.timeline import timeline
from tasks.contracts import (
    Held,
    Image,
    Plan,
    PlannedServer,
    RunRecord,
    ServerLog,
    Share,
    Timing,
    Unknown,
    VerifiedServer,
)
from tasks.record import history
from tests.lab.verified import verified_server

GIB = 1 << 30
CASES = Path(__file__).parents[1] / "cases" / "journals"
DIGEST = f"sha256:{'ab' * 32}"
MARKDOWN = MarkdownIt("commonmark").enable("table")


def run(*servers: VerifiedServer, **more: object) -> RunRecord:
    """Return a run that verified some servers."""
    made = RunRecord("r1", "0", "lab-host", "", 62.0, "changed", "", "", "auto", verified=servers)
    return replace(made, **more)  # type: ignore[arg-type]


def server(
    model: str = "chat", *held: Held, devices: tuple[Share, ...] = (), image: str = ""
) -> VerifiedServer:
    """Return a verified server of which it is known where it lies."""
    made = verified_server(model, role="llm", runtime="llama.cpp")
    planned = replace(made.server.planned, devices=devices)
    inside = replace(made.server, planned=planned, name=model, image=image, container=f"pmoves-{model}")
    return replace(made, held=held, server=inside)


def headings(text: str) -> list[str]:
    """Return the headings that a reader of Markdown sees."""
    pairs = pairwise(MARKDOWN.parse(text))
    return [inside.content for one, inside in pairs if one.type == "heading_open"]


# --- what went wrong -----------------------------------------------------------------------------

BAD = replace(server("chat"), degraded="it runs on the CPU", findings=("half as fast",))
LOG = ServerLog("pmoves-mini", "mini ran out of memory", "loading\nCUDA error: out of memory\n")


def test_what_went_wrong_comes_first() -> None:
    """Before everything that was seen and decided."""
    shown = evidence.markdown_run(run(BAD, logs=(LOG,), timings=(Timing("pull", "chat", 0, 60),)))

    assert headings(shown) == [
        "lab-host: changed",
        "pmoves-mini died",
        "Degraded",
        "Findings",
        "Measured",
        "Where they lie",
        "Timeline",
    ]
    assert "- **chat**: it runs on the CPU" in shown
    assert "- **chat**: half as fast" in shown
    assert "mini ran out of memory\n\n```text\nloading\nCUDA error: out of memory\n```" in shown


def test_a_good_run_has_no_such_section() -> None:
    """Nothing is said of what is not there."""
    assert headings(evidence.markdown_run(run())) == ["lab-host: changed"]


def test_a_server_that_printed_nothing_says_so() -> None:
    """An empty block would look like a fault of the page."""
    shown = evidence.markdown_run(run(logs=(replace(LOG, tail="\n\x1b[0m\n"),)))

    assert "It printed nothing." in shown
    assert "```" not in shown


# --- text stays text -----------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("`~|#*_[]()<>!&\\\n\r\t\x1b\x85\u2028 ax-+=1.:"), max_size=60) | st.text(
    max_size=60
)
UNHURRIED = settings(deadline=None)  # a cold start is no failure


@UNHURRIED
@given(TEXTS)
@example("```\n# out\n")
@example("`````\n# out\n````\n")
def test_a_log_never_leaves_its_block(tail: str) -> None:
    """Whatever it printed: fences of its own, line ends of every kind, colours."""
    block = fenced(tail)
    tokens = MARKDOWN.parse(f"before\n\n{block}\n\nafter")

    assert [one.type for one in tokens if one.type == "fence"] == (["fence"] if block else [])
    assert [one.content for one in tokens if one.type == "inline"] == ["before", "after"]
    assert all(sign.isprintable() or sign == "\n" for sign in block)


@UNHURRIED
@given(TEXTS, TEXTS)
def test_cells_never_leave_their_row(first: str, second: str) -> None:
    """A table has the rows and cells that it was given, and no markup in them."""
    tokens = MARKDOWN.parse(evidence.markdown(("A", "B"), [(first, second)]))
    cells = [one for one in tokens if one.type == "inline"]
    kinds = {child.type for one in cells for child in one.children or ()}

    assert [one.type for one in tokens if one.type in {"tr_open", "paragraph_open"}] == ["tr_open"] * 2
    assert len(cells) == 4
    assert kinds <= {"text", "text_special"}


@UNHURRIED
@given(TEXTS)
@example("&lt;b&gt; &amp;")
def test_a_name_is_read_as_it_is(name: str) -> None:
    """What a reader sees of it are its own signs; those that do not print are blanks."""
    (one,) = [one for one in MARKDOWN.parse(f"x{escape(name)}x") if one.type == "inline"]
    seen = "".join(child.content for child in one.children or ())

    assert seen == "x" + "".join(sign if sign.isprintable() else " " for sign in name) + "x"


def test_what_servers_say_of_themselves_stays_text() -> None:
    """Their names, why they died, why they are degraded, and findings."""
    bad = "# <b>big</b> ![x](http://x/y.png) *x*"
    named = replace(BAD, degraded=bad, findings=(bad,))
    shown = evidence.markdown_run(run(named, logs=(ServerLog(bad, bad, ""),), error=bad))
    inline = [one for one in MARKDOWN.parse(shown) if one.type == "inline"]
    found = [one for one in inline if "big" in one.content]

    assert len(found) == 5
    assert not {child.type for one in found for child in one.children or ()} & {
        "image",
        "em_open",
        "html_inline",
    }


def test_the_end_of_a_log_is_kept() -> None:
    """Not its beginning, should it be longer than a record has it; colours and redrawn lines are text."""
    long = fenced("first" + "x" * LONGEST_TAIL + "\x1b[31mred\x1b[0m\r\n50 %\r100 %\x1b]0;title\x07")
    lines = long.splitlines()

    assert lines[1].endswith("xred")
    assert lines[2:] == ["50 %", "100 %", "```"]
    assert "first" not in long


# --- where they lie ------------------------------------------------------------------------------


def test_planned_and_measured_stand_beside_each_other() -> None:
    """A row a device, also where the plan has nothing: there a fallback is seen."""
    devices = (Share("gpu0", 5 * GIB), Share("gpu1", 4 * GIB))
    fallen = server(
        "chat",
        Held("gpu0", 6 * GIB, "NVML"),
        Held("cpu", GIB, "cgroup"),
        Held("cpu", GIB, "cgroup"),
        devices=devices,
    )

    assert lie_rows((fallen,)) == [
        ("chat", "gpu0", "5.0 GiB", "6.0 GiB", "+1.0 GiB (+20%)", "NVML"),
        ("chat", "gpu1", "4.0 GiB", "nothing", "-4.0 GiB (-100%)", ""),
        ("chat", "cpu", "nothing", "2.0 GiB", "+2.0 GiB", "cgroup"),
    ]


def test_what_is_known_as_a_whole_has_one_row() -> None:
    """Or the reason why it is not known."""
    whole = server("chat", devices=(Share("gpu0", GIB), Share("gpu1", GIB)))
    unknown = replace(server("mini"), memory_bytes=Unknown("no counter"))

    assert lie_rows((replace(whole, memory_bytes=2 * GIB), unknown)) == [
        ("chat", "gpu0 and gpu1", "2.0 GiB", "2.0 GiB", "none", "the server as a whole"),
        ("mini", "cpu", "0.3 GiB", "unknown", "", "no counter"),
    ]
    assert difference(0, 0) == "none"


# --- images --------------------------------------------------------------------------------------

LLAMA = Image(
    runtime="llama.cpp",
    accelerator="cuda",
    architectures=("amd64",),
    repository="ghcr.io/ggml-org/llama.cpp",
    tag="server-cuda",
    port=8080,
    size_bytes=1,
    size_basis="",
    sources=(),
    digest=DIGEST,
)


def plan(*servers: PlannedServer) -> Plan:
    """Return a plan of some servers and nothing else."""
    return Plan("lab-host", "p", "", (), (), 0, 0, 0, "", (), servers=servers)


def planned(name: str, image: Image | None) -> PlannedServer:
    """Return a server of a plan."""
    return PlannedServer(name, "llama.cpp", "resident", ("gpu0",), (name,), 8101, (), image=image)


def test_images_have_their_whole_digest() -> None:
    """As they run, and of servers that did not come so far as planned; a process has none."""
    loose = Image(
        runtime="tei", accelerator="cpu", architectures=(), repository="r", tag="1", port=1, size_bytes=1,
        size_basis="", sources=(), unpinned="its maker deletes old ones",
    )  # fmt: skip
    found = run(
        server("chat", image=f"{LLAMA.repository}@{DIGEST}"),
        server("code", image=f"{LLAMA.repository}@{DIGEST}"),
        plan=plan(
            planned("chat", LLAMA), planned("big", LLAMA), planned("mini", loose), planned("old", None)
        ),
    )

    assert image_lines(found) == [
        f"chat: ghcr.io/ggml-org/llama.cpp:server-cuda {DIGEST}, container pmoves-chat",
        f"big: ghcr.io/ggml-org/llama.cpp:server-cuda {DIGEST}, not verified",
        "mini: r:1 without a digest (its maker deletes old ones), not verified",
        f"code: ghcr.io/ggml-org/llama.cpp {DIGEST}, container pmoves-code",
    ]
    assert "## Images" in evidence.markdown_run(found)


def test_a_server_of_two_models_has_one_line() -> None:
    """A container is listed once, whatever it serves."""
    both = (server("chat", image=f"r@{DIGEST}"), server("mini", image=f"r@{DIGEST}"))
    one = [
        replace(each, server=replace(each.server, name="ollama", container="pmoves-ollama")) for each in both
    ]

    assert image_lines(run(*one)) == [f"ollama: r {DIGEST}, container pmoves-ollama"]


# --- the timeline --------------------------------------------------------------------------------


def test_the_timeline_is_a_picture_a_sentence_and_a_table() -> None:
    """The picture is in the page itself."""
    found = run(timings=(Timing("pull", "<b>", 0, 60), Timing("pull", "mini", 0, 5)))
    shown = evidence.markdown_run(found)
    data = re.search(r"!\[Timeline of [^\]]*\]\(data:image/svg\+xml;base64,([^)]*)\)", shown)

    assert data is not None
    assert ET.fromstring(b64decode(data[1])).tag.endswith("svg")  # noqa: S314  # made here
    assert escape(timeline(found).said) in shown
    assert "| pull | &lt;b&gt; | 0.00 s | 60.00 s |" in shown


# --- journals of older versions ------------------------------------------------------------------


@pytest.mark.parametrize("case", sorted(CASES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_journals_of_older_versions_are_read_and_shown(case: Path) -> None:
    """Every line of them, in every form; and they teach the planner what they can."""
    found = history.read(case)

    assert found.records
    assert found.unreadable == 0
    for record in found.records:
        shown = evidence.markdown_run(record)
        assert headings(shown)[-1] == "Timeline"
        assert "all-minilm-l6-v2" in report.format_run(record, "http://127.0.0.1:4200")
        assert "Degraded" not in shown
    assert [one.unit for one in known(found.records, lambda _pid: False).footprints] == ["texts/s"]
