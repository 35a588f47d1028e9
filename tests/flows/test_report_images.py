"""The images of a plan as text."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from flows.report_images import image_rows, images_line, images_of, images_table
from flows.report_plan import format_plan, plan_rows, plan_summary
from tasks.contracts import Image, Plan, Wish
from tasks.plan.request import External, Request
from tests.lab.bundles import decoder, encoder, planned_on, shelf_of
from tests.lab.hosts import device, make_host

URL = "http://127.0.0.1:8000/v1"
SHELF = shelf_of(
    (
        decoder("chat", roles=("llm",), sizes_mib=(6000,)),
        encoder("vectors", role="embeddings", size_mib=600),
        encoder("order", role="reranker", size_mib=600),
    ),
    (
        Wish(role="llm", models=("chat",), context=8192),
        Wish(role="embeddings", models=("vectors",)),
        Wish(role="reranker", models=("order",)),
    ),
)


def plan(*external: External) -> Plan:
    """Plan a chat model in Ollama, and two models in TEI."""
    return planned_on(make_host(cards=(device(),)), SHELF, Request("lab", external=external))


def exact(image: Image | None) -> Image | None:
    """Return an image whose size is that of its manifest."""
    return image and msgspec.structs.replace(image, size_bytes=1 << 30, size_basis="its manifest")


@pytest.fixture
def told() -> Plan:
    """Return a plan whose images have known sizes."""
    made = plan()
    return replace(made, servers=tuple(replace(one, image=exact(one.image)) for one in made.servers))


def test_each_image_stands_once_with_its_servers() -> None:
    """In the order of the servers."""
    assert [(image.reference, names) for image, names in images_of(plan())] == [
        ("ollama/ollama:0.33.3", ("ollama-gpu0",)),
        ("ghcr.io/huggingface/text-embeddings-inference:86-1.9.3", ("model-vectors", "model-order")),
    ]


def test_a_size_says_whether_it_is_an_estimate(told: Plan) -> None:
    """A manifest's is none."""
    assert [row[1] for row in image_rows(plan())] == ["3.0 GiB est.", "1.8 GiB est."]
    assert [row[1] for row in image_rows(told)] == ["1.0 GiB", "1.0 GiB"]


def test_all_images_are_summed_beside_the_download(told: Plan) -> None:
    """They are kept by the engine, not in the store."""
    assert images_line(plan()) == "; container images: 2, about 4.7 GiB, kept by the engine"
    assert images_line(told) == "; container images: 2, 2.0 GiB, kept by the engine"
    assert plan_summary(told).endswith(images_line(told))


def test_a_plan_shows_its_images() -> None:
    """As a table after the services, and in the last line."""
    text = format_plan(plan())

    assert "\nIMAGE" in text
    assert "86-1.9.3" in text
    assert "container images: 2" in " ".join(text.split())


def test_a_narrow_sheet_has_two_lines_an_image() -> None:
    """A table that is no wider stays one."""
    lines = images_table(plan(), 60)

    assert lines[0] == "ollama/ollama:0.33.3"
    assert lines[1].startswith("  3.0 GiB est., for ollama-gpu0")
    assert images_table(plan(), 200) == images_table(plan())


def test_a_plan_without_containers_has_no_table() -> None:
    """And says nothing of images."""
    made = plan(*(External(role, URL) for role in ("llm", "embeddings", "reranker")))

    assert (images_table(made), images_line(made)) == ([], "")
    assert "IMAGE" not in format_plan(made)


def test_a_role_that_another_server_plays_says_where() -> None:
    """It takes no memory, and nothing is fetched for it."""
    row = plan_rows(plan(External("llm", URL, "mine")))[0]

    assert row == ("llm", "kept", "mine", "external", "resident", f"at {URL}", "", "", "", "")
