"""Servers that already run and are not ours: asked, used, and never started or stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import PlannedModel
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import ServeError
from tasks.serve import apply
from tasks.serve.context import ServeContext
from tests.serve.serving import Lab, model, pulled, verified

ADDRESS = "http://127.0.0.1:1234/v1"


def external(**about: object) -> PlannedModel:
    """Return a model on an OpenAI-compatible server."""
    given: dict[str, object] = {"runtime": "external", "external": ADDRESS, "server": "external-llm", **about}
    return model("gpt", **given)  # type: ignore[arg-type]


def asking(lab: Lab, http: MemoryHttp) -> ServeContext:
    """Return a run that asks such a server."""
    return replace(lab.run(), http=http)


def test_one_that_answers_is_kept(lab: Lab) -> None:
    """No container, no process, and the address that was given."""
    http = MemoryHttp(lambda _request: Reply(200, b'{"data":[]}', 0.0))
    ctx = asking(lab, http)

    served = apply.serve(pulled(external()), ctx)

    assert ("keep", "it already runs, and is not ours") == (served.change.kind, served.change.reason)
    assert (ADDRESS, "gpt", "", "") == (served.base_url, served.asked_as, served.container, served.image)
    assert [f"{ADDRESS}/models"] == [one.url for one in http.requests]
    assert (verified(served),) == apply.promote((verified(served),), ctx)
    assert [] == [name for name in lab.asked() if name != "containers"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1234", "http://127.0.0.1:1234/", f"{ADDRESS}/"])
def test_addresses_are_taken_as_people_write_them(lab: Lab, address: str) -> None:
    """With and without the version at their end."""
    http = MemoryHttp(lambda _request: Reply(200, b"{}", 0.0))

    assert ADDRESS == apply.serve(pulled(external(external=address)), asking(lab, http)).base_url


def refuses(_request: Request) -> Reply:
    """Answer as nobody."""
    raise HttpError("the connection is refused")


def wrong(_request: Request) -> Reply:
    """Answer as something else."""
    return Reply(404, b"not here\x1b[2J", 0.0)


@pytest.mark.parametrize(
    ("answer", "said"), [(refuses, "the connection is refused"), (wrong, "HTTP 404: not here")]
)
def test_one_that_does_not_answer_is_named(lab: Lab, answer: object, said: str) -> None:
    """With what it serves, what it said, and where it was named."""
    with pytest.raises(ServeError) as raised:
        apply.serve(pulled(external()), asking(lab, MemoryHttp(answer)))  # type: ignore[arg-type]

    text = str(raised.value)
    assert f"{ADDRESS}/models, which is to serve llm and is not ours, does not answer ({said}" in text
    assert "PMOVES_EXTERNAL" in text
    assert text.isprintable()


def test_anothers_ollama_loads_and_its_refusal_is_shown(lab: Lab) -> None:
    """It is asked at its own API; nothing of it is stopped."""

    def full(request: Request) -> Reply:
        return Reply(200 if request.method == "GET" else 500, b'{"error":"model requires more memory"}', 0.0)

    planned = external(runtime="ollama", external="http://127.0.0.1:11434", server="ollama-external")
    http = MemoryHttp(full)

    with pytest.raises(
        ServeError, match=r"http://127.0.0.1:11434 does not load gpt .*requires more memory"
    ) as raised:
        apply.serve(pulled(planned), asking(lab, http))

    assert "that server is as it was" in raised.value.intact
    assert "http://127.0.0.1:11434/api/version" == http.requests[0].url


def test_it_needs_no_engine(lab: Lab) -> None:
    """A host without one may have such a server."""
    http = MemoryHttp(lambda _request: Reply(200, b"{}", 0.0))
    ctx = replace(asking(lab, http), containers=None)

    served = apply.serve(pulled(external()), ctx)

    assert (verified(served),) == apply.promote((verified(served),), ctx)
    assert () == apply.remove_unplanned(ctx)
    apply.recover(ctx)
    assert not apply.fetch_image("x", ctx)
    assert not apply.pulls_itself(external(runtime="ollama"))
    assert apply.pulls_itself(model(runtime="ollama"))
    assert not apply.pulls_itself(model())
