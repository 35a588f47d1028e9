"""The page of the guide's bundles is what the planner says today."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import catalogue
from tasks.wording import GIB
from tests.lab.guide_bundles import BUNDLES, Line, Planned, files, numbers
from tests.lab.guide_page import COMMAND, MISNAMED, PAGE, PICTURES, everything, reason

SHELF = catalogue.load(catalogue.DEFAULT)
PLANS = {name: Planned(SHELF, bundle, name) for bundle in BUNDLES for name in bundle.profiles}


def line(name: str, role: str) -> Line:
    """Return what became of one role of a bundle as it is written."""
    return next(one for one in PLANS[name].lines if one.words.role == role)


def needs(name: str) -> int:
    """Return what all roles of a bundle need as they are written."""
    return sum(numbers(one.alone)[0] for one in PLANS[name].lines)


def budget(name: str) -> int:
    """Return what a plan may use of the accelerators, or of main memory where there is none."""
    return sum(one.budget_bytes for one in PLANS[name].pools.pools)


@pytest.fixture(scope="module")
def current() -> dict[Path, str]:
    """Return the page and the pictures as they would be written now."""
    return everything()


def test_page_and_pictures_are_current(current: dict[Path, str]) -> None:
    """The committed files are those that the planner gives."""
    stale = [path.name for path, text in current.items() if not path.exists() or path.read_text() != text]

    assert [] == stale, f"write them again with: {COMMAND}"


def test_no_picture_is_left_over(current: dict[Path, str]) -> None:
    """Each picture in the folder belongs to a bundle, and the page shows it."""
    there = {path.name for path in PICTURES.iterdir()}

    assert {path.name for path in current if path != PAGE} == there
    assert all(f"(pictures/{name})" in current[PAGE] for name in there)


def test_lines_are_long_in_tables_only(current: dict[Path, str]) -> None:
    """Text is broken, so that a change of it can be read."""
    assert [] == [text for text in current[PAGE].splitlines() if len(text) > 110 and text[0] != "|"]


@pytest.mark.parametrize("name", PLANS)
def test_every_role_has_a_verdict_and_a_reason(name: str) -> None:
    """What does not fit, is not served or is left out says why."""
    planned = PLANS[name]

    assert [one.role for one in planned.bundle.words] == [one.words.role for one in planned.lines]
    for one in planned.lines:
        assert one.together.verdict in {"kept", "dropped"}
        assert one.together.why
        assert one.alone.why
        assert one.together.model or reason(one)


@pytest.mark.parametrize("name", PLANS)
def test_nothing_but_what_is_written_is_planned(name: str) -> None:
    """As written, no other model, quantisation, context or KV type is taken, and nothing takes turns."""
    wishes = {one.model: one.quantisation for one in PLANS[name].bundle.words}
    for one in PLANS[name].written.models:
        assert wishes[one.model] == one.quantisation
        assert one.residency != "on-demand"
        assert one.kv_type == "f16"
        assert one.role not in {"llm", "code"} or one.context == 32768


@pytest.mark.parametrize("name", PLANS)
def test_what_fits_together_fits_alone(name: str) -> None:
    """Other models never make room."""
    assert all(one.alone.model for one in PLANS[name].lines if one.together.model)


@pytest.mark.parametrize("name", ["rtx-3090-ti", "rtx-4090", "rtx-5090", "dual-gpu"])
def test_bundles_for_cards_do_not_fit(name: str) -> None:
    """On one card and on two, the files of the guide's models alone are more than there is."""
    size = sum(files(SHELF, one)[1] for one in PLANS[name].bundle.words)

    assert needs(name) > size > sum(one.total_bytes for one in PLANS[name].pools.pools)


def test_full_precision_needs_twice_the_card() -> None:
    """Qwen2.5 32B in bf16 needs more than 60 GiB, and the larger card has less than 32."""
    asked, there = numbers(line("rtx-5090", "llm").alone)

    assert asked > 60 * GIB
    assert there < 32 * GIB
    assert line("rtx-5090", "llm").alone.model is None


def test_chat_model_does_not_fit_its_card_with_its_context() -> None:
    """On 24 GB, 4 bits of 32B fit, and with 32,768 tokens of f16 KV they do not, even alone."""
    one = line("rtx-3090-ti", "llm")
    asked, there = numbers(one.alone)

    assert files(SHELF, one.words)[1] < there < asked
    assert one.need is not None
    assert 8 * GIB == one.need.kv_bytes


def test_alone_is_told_from_together() -> None:
    """Vision fits the 24 GB card by itself, and not beside what stands above it."""
    one = line("rtx-3090-ti", "vision")

    assert "qwen2-vl-7b-instruct" == one.alone.model
    assert one.together.model is None
    assert "would fit alone" in reason(one)


@pytest.mark.parametrize("name", ["jetson", "cpu-only"])
def test_small_bundles_fit(name: str) -> None:
    """Where there is no card of its own, all that can be served fits together."""
    served = [one for one in PLANS[name].lines if one.need]

    assert all(one.together.model for one in served)
    assert needs(name) < budget(name)


def test_what_no_runtime_serves_says_so() -> None:
    """Florence-2 is not out of memory: nothing here can load it."""
    one = line("jetson", "vision")

    assert one.need is None
    assert "cannot be served" in reason(one)


def test_a_role_without_a_model_is_left_to_the_cloud() -> None:
    """The CPU bundle has no vision."""
    assert "left" not in reason(line("rtx-3090-ti", "llm"))
    assert "cloud" in reason(line("cpu-only", "vision"))


@pytest.mark.parametrize("name", PLANS)
def test_shipped_profile_serves_every_role_of_the_guide(name: str) -> None:
    """What the program plans instead leaves out none of the roles for which the guide has a model."""
    served = {one.role for one in PLANS[name].instead.decisions if one.model}

    assert {one.role for one in PLANS[name].bundle.words if one.model} <= served


def test_misnamed_models_are_explained() -> None:
    """Each name of the last list is in a bundle, and the catalogue says what is wrong with it."""
    words = {one.written: one for bundle in BUNDLES for one in bundle.words}

    assert all(SHELF.models[words[name].model].guide for name in MISNAMED)
