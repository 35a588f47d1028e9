"""A reranker puts the right document first, clearly, in both ways of asking."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.lab.answering import Model, relevance, reply

PLAN = {"role": "reranker", "model": "m"}
Scores = Callable[[str, list[str]], list[float]]


def logit(query: str, documents: list[str]) -> list[float]:
    """Return scores that are no probabilities."""
    return [math.log(one / (1 - one)) for one in relevance(query, documents)]


@pytest.mark.parametrize("api", ["tei", "jina"])
@pytest.mark.parametrize("scores", [relevance, logit])
def test_a_right_reranker_is_verified(checked: Callable[..., object], api: str, scores: Scores) -> None:
    """Scores may be probabilities or not."""
    model = Model()
    model.scores = scores
    made = checked(model, rerank_api=api, **PLAN)

    assert 5 == len(made.answers)
    assert 4 == sum(one.url.endswith("/rerank") for one in model.requests)
    assert pytest.approx(500) == made.texts_per_s


@pytest.mark.parametrize(
    ("scores", "got"),
    [
        (lambda q, d: [one * 1e-20 for one in relevance(q, d)], "leads by 9.7e-21"),
        (lambda _q, d: [0.5] * len(d), "leads by 0"),
        (lambda _q, d: [0.0] * len(d), "leads by 0"),
        (lambda q, d: [1 - one for one in relevance(q, d)], "which document answers"),
        (lambda _q, d: [1.0, *[0.1] * (len(d) - 1)], "which document answers"),
        (lambda _q, d: relevance("planet", d), "Why does bread rise"),
        (lambda _q, d: [0.9 if "planet" in one else 0.0 for one in d], "Why does bread rise"),
        (lambda q, d: relevance(q, d)[1:] + relevance(q, d)[:1], "which document answers"),
        (lambda q, d: relevance(q, d)[::-1], "which document answers"),
        (lambda q, d: [0.3 * one + 0.7 * (place == 0) for place, one in enumerate(relevance(q, d))], "which"),
        (
            lambda q, d: [one - 0.3 * (place > 2) for place, one in enumerate(logit(q, d))],
            None,
        ),
        (lambda q, d: [one + (0.1 * place) for place, one in enumerate(logit(q, d))], None),
        (lambda q, d: [one * 0.05 for one in logit(q, d)], "leads by 0.6"),
        (lambda q, d: [one + 3 * place for place, one in enumerate(logit(q, d))], "in another order"),
        (lambda _q, d: [math.nan] * len(d), "the score nan, which is not a finite number"),
        (lambda q, d: relevance(q, d)[:-1], "4 scores for 5 documents"),
        (lambda _q, d: ["0.9"] * len(d), "the score '0.9'"),
    ],
)
def test_scores(
    checked: Callable[..., object], refused: Callable[..., str], scores: Scores, got: str | None
) -> None:
    """Broken files, constants and places that count are refused; a little noise is not."""
    model = Model()
    model.scores = scores
    if got is None:
        assert checked(model, **PLAN)
    else:
        assert got in refused(model, **PLAN)


@pytest.mark.parametrize("api", ["tei", "jina"])
@pytest.mark.parametrize(
    ("index", "got"),
    [
        (lambda place: place + 1, "scores with the indexes [1, 2, 3, 4, 5]"),
        (lambda _place: 0, "scores with the indexes [0]"),
        (str, "a score with the index '0'"),
        (lambda place: (place + 1) % 5, "which document answers"),
        (lambda place: place == 1, "a score with the index"),
    ],
)
def test_the_right_score_at_the_wrong_index(
    refused: Callable[..., str], api: str, index: Callable[[int], object], got: str
) -> None:
    """A client would read it as another document's."""
    model = Model()

    def twisted(request: object) -> object:
        body = request.json
        values = relevance(body["query"], body.get("texts") or body["documents"])
        field = "score" if api == "tei" else "relevance_score"
        rows = [{"index": index(place), field: one} for place, one in enumerate(values)]
        return reply(rows if api == "tei" else {"results": rows})

    model.extra["/rerank" if api == "tei" else "/v1/rerank"] = twisted

    assert got in refused(model, rerank_api=api, **PLAN)


@pytest.mark.parametrize(("api", "body"), [("tei", {"results": []}), ("jina", []), ("jina", {"scores": [1]})])
def test_the_answer_in_the_wrong_style(refused: Callable[..., str], api: str, body: object) -> None:
    """Each style has its own shape."""
    model = Model()
    model.extra["/rerank" if api == "tei" else "/v1/rerank"] = lambda _request: reply(body)

    assert "answers wrongly: which document answers" in refused(model, rerank_api=api, **PLAN)


def test_a_server_without_a_rerank_api_is_refused(refused: Callable[..., str]) -> None:
    """Ollama, for one, has none."""
    assert "the server has no rerank API" in refused(Model(), rerank_api="", **PLAN)


def test_tei_may_name_its_model_by_the_path_of_its_weights(
    checked: Callable[..., object], refused: Callable[..., str]
) -> None:
    """The path has the pinned revision in it; another model's has not."""
    model, other = Model(), Model()
    revision = checked(Model(), rerank_api="tei", **PLAN).server.planned.weights.revision
    model.extra["/info"] = lambda _request: reply({"model_id": f"/hub/models--a--b/snapshots/{revision}"})
    other.extra["/info"] = lambda _request: reply({"model_id": "/hub/models--a--b/snapshots/0"})
    plan = {**PLAN, "runtime": "tei", "rerank_api": "tei"}

    assert checked(model, **plan)
    assert "which models are listed? expected m, got /hub/" in refused(other, **plan)
