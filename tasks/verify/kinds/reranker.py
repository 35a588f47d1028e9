"""Documents of which one answers the query: it must come first, clearly, and wherever it stands."""

from __future__ import annotations

from tasks.contracts import Answer, Performance
from tasks.effects.rerank import Scores, rerank
from tasks.verify.asking import Asked, Found, shown
from tasks.verify.probe_shapes import ProbeFile, RerankerProbe, Search

SAME_SHARE = 0.1
"""By how much of the spread a document's score may change with its place: short floats do that. Chosen."""


def ask(probes: ProbeFile, asked: Asked) -> Found | None:
    """Let the documents be scored for each query, in their order and in the reverse of it."""
    probe = probes.reranker
    if probe is None:
        return None
    answers: list[Answer] = []
    seconds: list[float] = []
    for search in probe.searches:
        question = f"which document answers {shown(search.query)}"
        expected = shown(probe.documents[search.right])
        forth, back = (
            asked.ask(
                question,
                expected,
                lambda left, search=search, documents=documents: rerank(  # type: ignore[misc]
                    asked.http, asked.server, search.query, documents, left
                ),
            )
            for documents in (probe.documents, probe.documents[::-1])
        )
        answers += asked.check(judge(probe, search, forth, back))
        seconds += [forth.seconds, back.seconds]
    per_s = len(probe.documents) / max(min(seconds), 1e-9)
    return Found(tuple(answers), performance=Performance(texts_per_s=per_s), latency_s=min(seconds))


def judge(probe: RerankerProbe, search: Search, forth: Scores, back: Scores) -> tuple[Answer, ...]:
    """Compare the scores of one query with what is expected. `back` has the documents in reverse order."""
    turned = back.values[::-1]
    is_probability = all(0 <= one <= 1 for one in (*forth.values, *turned))
    margin = (probe.margin_percent if is_probability else probe.logit_percent) / 100
    best, lead = _best(forth.values)
    worst = max(abs(one - other) for one, other in zip(forth.values, turned, strict=True))
    spread = max(forth.values) - min(forth.values)
    query, right = shown(search.query), shown(probe.documents[search.right])
    return (
        Answer(
            f"which document answers {query}",
            f"{right} leads by {margin:g} or more",
            f"{shown(probe.documents[best])} leads by {lead:.3g}",
            best == search.right and lead >= margin,
            forth.seconds,
        ),
        Answer(
            f"are the scores for {query} the same in another order of the documents",
            f"differ by at most {SAME_SHARE:.0%} of their spread",
            f"differ by {worst:.3g} of {spread:.3g}",
            _best(turned)[0] == best and worst <= SAME_SHARE * spread,
            back.seconds,
        ),
    )


def _best(scores: tuple[float, ...]) -> tuple[int, float]:
    """Return the place of the highest score, and by how much it leads."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return order[0], scores[order[0]] - scores[order[1]]
