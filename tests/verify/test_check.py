"""A right server is verified; a wrong one is refused with what was expected and what came."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tasks.contracts import ModelServer, OllamaTag, Unknown, VerifiedServer
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.effects.resident import resident_bytes
from tasks.errors import StoppedError, VerifyError
from tasks.verify import deadlines
from tasks.verify.check import VerifyContext, verify
from tasks.verify.kinds.embeddings import BATCH
from tasks.verify.probe_files import DEFAULT

CAT, KITTEN = "a cat sits", "a kitten rests"
CRASH, FALL = "the stock market crashed", "share prices fell sharply"
MODEL = "all-minilm-l6-v2"
TOPICS = {CAT: "animals", KITTEN: "animals", CRASH: "money", FALL: "money"}
Make = Callable[..., ModelServer]
Vectors = list[list[float]]


def noise(seed: str, count: int) -> list[float]:
    """Return numbers that depend on the seed alone."""
    source = random.Random(hashlib.sha256(seed.encode()).digest())  # noqa: S311  # no secret
    return [source.gauss(0, 1) for _ in range(count)]


def right(texts: Sequence[str], count: int = 384) -> Vectors:
    """Return unit vectors that are near when texts have the same topic."""
    rows = []
    for text in texts:
        topic = noise(TOPICS.get(text, text), count)
        row = [2 * shared + own for shared, own in zip(topic, noise(text, count), strict=True)]
        length = math.sqrt(sum(value * value for value in row))
        rows.append([value / length for value in row])
    return rows


class World:
    """Plays a server. Each attribute is one thing that can be wrong."""

    def __init__(self, vectors: Callable[[Sequence[str]], Vectors] = right) -> None:
        self.vectors = vectors
        self.health: Iterable[Reply | HttpError] = itertools.repeat(reply({"status": "ok"}))
        self.listed = reply({"object": "list", "data": [{"id": MODEL}]})
        self.embeddings: Reply | None = None
        self._health = None

    def answer(self, request: Request) -> Reply:
        """Answer as the server would."""
        if request.url == "http://127.0.0.1:7990/health":
            self._health = self._health or iter(self.health)
            got = next(self._health)
            if isinstance(got, HttpError):
                raise got
            return got
        if request.url == "http://127.0.0.1:7990/v1/models":
            return self.listed
        assert request.url == "http://127.0.0.1:7990/v1/embeddings"
        assert isinstance(request.json, dict)
        assert MODEL == request.json["model"]
        return self.embeddings or embeddings(self.vectors(request.json["input"]))


def reply(body: object, status: int = 200) -> Reply:
    """Return a JSON reply that took 10 ms."""
    return Reply(status, json.dumps(body).encode(), 0.01)


def embeddings(rows: Vectors) -> Reply:
    """Return a reply with these vectors."""
    data = [{"index": index, "embedding": row} for index, row in enumerate(rows)]
    return reply({"data": data, "usage": {"prompt_tokens": 1}})


def check(server: ModelServer, world: World, **more: object) -> VerifiedServer:
    """Verify the server of a world."""
    ctx = VerifyContext(
        MemoryHttp(world.answer), memory=lambda pid: pid * 1000, **{"deadline_s": 0.5, **more}
    )
    return verify(server, ctx)


def refusal(server: ModelServer, world: World, **more: object) -> str:
    """Return the sentence with which the server is refused."""
    with pytest.raises(VerifyError) as caught:
        check(server, world, **more)
    assert str(caught.value).startswith(f"{MODEL} on http://127.0.0.1:7990/v1 ")
    assert str(caught.value).endswith("; read /state/model-x.log, then run `pmoves provision` again.")
    return caught.value.what


def test_a_right_server_is_verified(server: Make) -> None:
    """Every question has its answer; speed and memory are measured."""
    made = check(server(), World())

    assert 6 == len(made.answers)
    assert all(answer.right for answer in made.answers)
    assert pytest.approx(0.01) == made.latency_s
    assert pytest.approx(len(BATCH) / 0.01) == made.texts_per_s
    assert 42_000 == made.memory_bytes


def test_light_asks_only_what_it_must(server: Make) -> None:
    """Health, models and three requests; the speed comes from those."""
    world = World()
    http = MemoryHttp(world.answer)

    made = verify(server(), VerifyContext(http, light=True, memory=lambda _: Unknown("not asked")))

    assert 5 == len(http.requests)
    assert pytest.approx(0.01) == made.latency_s
    assert pytest.approx(500) == made.texts_per_s


def test_a_server_that_starts_slowly_is_waited_for(server: Make) -> None:
    """Refused connections and 503 are no answer yet."""
    world = World()
    world.health = [HttpError("the connection is refused"), reply({"status": "loading"}, 503), reply({})]

    assert check(server(), world)


@pytest.mark.parametrize(
    ("got", "last"),
    [
        (HttpError("the connection is refused"), "the connection is refused"),
        (reply({"status": "loading"}, 503), 'HTTP 503: {"status": "loading"}'),
    ],
)
def test_never_ready(server: Make, got: Reply | HttpError, last: str) -> None:
    """The last answer is in the error."""
    world = World()
    world.health = itertools.repeat(got)

    assert refusal(server(), world, deadline_s=0.1).endswith(
        f"was not ready within 0.1 s (last answer: {last})"
    )


def twisted(twist: Callable[[list[float]], list[float]]) -> Callable[[Sequence[str]], Vectors]:
    """Return what gives right vectors, each twisted."""
    return lambda texts: [twist(row) for row in right(texts)]


def unlike(texts: Sequence[str]) -> Vectors:
    """Return vectors that have nothing to do with the meaning."""
    swap = {KITTEN: CRASH, CRASH: KITTEN}
    return right([swap.get(text, text) for text in texts])


def constant(texts: Sequence[str]) -> Vectors:
    """Return the same vector for every text."""
    return right([CAT] * len(texts))


def crowd_dependent(texts: Sequence[str]) -> Vectors:
    """Return other vectors for a text among others than alone."""
    return [[-value for value in row] if len(texts) > 1 else row for row in right(texts)]


def last_row_lost(texts: Sequence[str]) -> Vectors:
    """Return the vector of another text in the last place of a batch."""
    rows = right(texts)
    return [*rows[:-1], rows[1]] if len(rows) > 1 else rows


@pytest.mark.parametrize(
    ("vectors", "what"),
    [
        (
            lambda texts: right(texts, 383),
            "how many numbers has a vector? expected 384 numbers, got 383 numbers",
        ),
        (
            twisted(lambda row: [2 * value for value in row]),
            "how long is a vector? expected 1 within 0.001, got 2.0000",
        ),
        (twisted(lambda row: [0.0] * len(row)), "how long is a vector? expected 1 within 0.001, got 0.0000"),
        (unlike, "expected at least 0.2 more within the pairs than between them, got 0.0"),
        (
            constant,
            "expected at least 0.2 more within the pairs than between them, got 1.00 within and 1.00 between",
        ),
        (
            crowd_dependent,
            "among others the one it has alone? expected differs by at most 0.0001, got differs by 0.",
        ),
        (
            last_row_lost,
            "among others the one it has alone? expected differs by at most 0.0001, got differs by 0.",
        ),
        (twisted(lambda row: [math.nan, *row[1:]]), "embedding 0 holds nan, which is not a finite number"),
        (twisted(lambda row: [math.inf, *row[1:]]), "embedding 0 holds inf, which is not a finite number"),
        (lambda texts: right(texts)[:-1], "got 0 embeddings for 1 texts"),
        (lambda texts: [[]] * len(texts), "embedding 0 is not a list of numbers"),
        (lambda texts: [["a"]] * len(texts), "embedding 0 holds 'a', which is not a finite number"),
    ],
)
def test_wrong_vectors(server: Make, vectors: Callable[[Sequence[str]], Vectors], what: str) -> None:
    """A server that answers 200 with nonsense fails, with expected and got in the sentence."""
    assert what in refusal(server(), World(vectors))


def test_another_vector_each_time(server: Make) -> None:
    """A server that is not deterministic fails."""
    calls = itertools.count()

    def drifting(texts: Sequence[str]) -> Vectors:
        shift = 1e-5 * next(calls)
        return [[row[0] + shift, *row[1:]] for row in right(texts)]

    assert "the same twice? expected differs by at most 1e-06, got differs by 1e-05" in refusal(
        server(), World(drifting)
    )


@pytest.mark.parametrize(
    ("embeddings", "got"),
    [
        (Reply(500, b"out of memory", 0.0), "got HTTP 500: out of memory"),
        (
            Reply(200, b"<html>It works!</html>", 0.0),
            "got HTTP 200: <html>It works!</html>, which is not JSON",
        ),
        (Reply(200, b"", 0.0), "got HTTP 200: an empty body, which is not JSON"),
        (Reply(200, b"[]", 0.0), "got HTTP 200: [], which is not an object"),
        (reply({"ok": True}), "got no embeddings for 1 texts"),
        (
            reply({"data": [{"index": 5, "embedding": [1]}]}),
            "got embeddings with the indexes [5] for 1 texts",
        ),
        (reply({"data": ["x"]}), "got embeddings with the indexes [None] for 1 texts"),
    ],
)
def test_wrong_bodies(server: Make, embeddings: Reply, got: str) -> None:
    """What is no answer to the question is shown."""
    world = World()
    world.embeddings = embeddings

    assert f"what are the vectors of 1 text? expected a vector for each, {got}" in refusal(server(), world)


@pytest.mark.parametrize(
    ("listed", "got"),
    [
        (reply({"data": [{"id": "other"}]}), "other"),
        (reply({"data": []}), "none"),
        (reply({}), "an answer without a list of models"),
        (Reply(404, b"no", 0.0), "HTTP 404: no"),
    ],
)
def test_not_listed(server: Make, listed: Reply, got: str) -> None:
    """The model must be among those that the server names."""
    world = World()
    world.listed = listed

    assert f"answers wrongly: which models are listed? expected {MODEL}, got {got}" in refusal(
        server(), world
    )


def test_an_unknown_dimension_is_not_asked_for(server: Make) -> None:
    """Where the catalogue has no number, any will do."""
    made = check(server(dimensions=None), World(lambda texts: right(texts, 7)))

    assert ("any number of numbers", "7 numbers") == (made.answers[1].expected, made.answers[1].got)


def test_a_role_without_questions_is_refused(server: Make, tmp_path: Path) -> None:
    """Nothing counts as verified that nobody can ask."""
    probes = tmp_path / "profiles" / "probes"
    probes.mkdir(parents=True)
    (probes / "embeddings.yaml").write_bytes((DEFAULT / "embeddings.yaml").read_bytes())

    assert refusal(server(role="llm"), World(), probes=probes).endswith(
        "has the role llm, for which there are no questions (only for embeddings)"
    )


def test_a_server_that_stands_still_is_not_waited_for(server: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While something moves the wait goes on; when nothing does, the deadline is not awaited."""
    monkeypatch.setattr(deadlines, "still_s", lambda _planned: 0.2)
    world, moves = World(), itertools.count()
    world.health = itertools.repeat(HttpError("the connection is refused"))

    still = refusal(server(), world, deadline_s=60, progress=lambda: 7.0)
    busy = refusal(server(), world, deadline_s=0.5, progress=lambda: float(next(moves)))

    assert still.endswith("stands still: nothing moved for 0.2 s (last answer: the connection is refused)")
    assert "was not ready within 0.5 s" in busy


@pytest.mark.parametrize(("size_bytes", "least_s"), [(1 << 30, 90), (40 << 30, 1500)])
def test_the_deadline_grows_with_the_weights(server: Make, size_bytes: int, least_s: float) -> None:
    """A large model on a slow disk is waited for."""
    planned = server(
        weights=None, ollama=OllamaTag(tag="m", size_bytes=size_bytes), runtime="ollama", role="llm"
    ).planned

    assert least_s < deadlines.load_s(planned) < 2 * least_s
    assert deadlines.deadline_for(planned) > deadlines.load_s(planned)


def test_stop_ends_the_waiting(server: Make) -> None:
    """A run that was asked to stop does not wait for the deadline."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(StoppedError):
        check(server(), World(), stop=stop, deadline_s=60)


def test_resident_memory(tmp_path: Path) -> None:
    """The VmRSS line counts KiB."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text("Name:\tpython\nVmHWM:\t  9 kB\nVmRSS:\t  240564 kB\n")

    assert 240564 * 1024 == resident_bytes(7, tmp_path)


@pytest.mark.parametrize(
    ("text", "why"), [(None, "cannot be read: No such file"), ("Name:\tx\n", "has no VmRSS line")]
)
def test_memory_that_cannot_be_seen_is_unknown(tmp_path: Path, text: str | None, why: str) -> None:
    """The reason names the file."""
    if text is not None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7/status").write_text(text)

    got = resident_bytes(7, tmp_path)

    assert isinstance(got, Unknown)
    assert f"{tmp_path}/7/status {why}" in got.unknown
