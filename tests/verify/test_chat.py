"""A chat model is right, or refused with the question, what was expected and what came."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.effects.chat import without_thoughts
from tasks.effects.http import Reply
from tasks.verify.kinds.chat import is_run
from tests.lab.answering import Model, reply, streamed

LLM = {"role": "llm", "model": "m"}


def test_a_right_model_is_verified(checked: Callable[..., object]) -> None:
    """Every question has its answer, and the pace is that of the stream."""
    made = checked(Model(), **LLM)

    assert 5 == len(made.answers)
    assert pytest.approx(59.0, rel=0.1) == made.performance.tokens_per_s
    assert 0 < made.performance.first_token_s < 0.1
    assert () == tuple(one for one in made.findings if "same question" in one)


def test_light_asks_each_question_once_and_measures_nothing(checked: Callable[..., object]) -> None:
    """A server that was kept is asked, and not measured."""
    model = Model()
    made = checked(model, light=True, **LLM)

    assert 4 == sum(one.url.endswith("/chat/completions") for one in model.requests)
    assert 0 == made.performance.tokens_per_s


@pytest.mark.parametrize(
    "message",
    [
        lambda text: {"role": "assistant", "content": f"<think>Is it 43? 44?</think>\n\n{text}"},
        lambda text: {"role": "assistant", "content": f"hm, 43 or 44\n</think>\n{text}"},
        lambda text: {"role": "assistant", "content": text, "reasoning_content": "43? No."},
        lambda text: {"role": "assistant", "content": f"**{text}**", "reasoning": "43? No."},
        lambda text: {"role": "assistant", "content": f" {text}.\n"},
    ],
)
def test_thoughts_are_no_answers(checked: Callable[..., object], message: Callable[[str], object]) -> None:
    """What a reasoning model thinks is left out, wherever it stands."""
    model = Model()
    model.message = message

    assert checked(model, **LLM)


@pytest.mark.parametrize(
    ("says", "got"),
    [
        (lambda _q, _a: "41", 'expected 42, got "41"'),
        (lambda _q, _a: "40 41 42 43 44", 'expected 42, got "40 41 42 43 44"'),
        (lambda _q, _a: "142", 'expected 42, got "142"'),
        (lambda _q, _a: "", "expected 42, got nothing, an empty answer"),
        (lambda _q, _a: "!" * 50, "one token over and over"),
        (lambda _q, _a: "42 " * 50, "one token over and over"),
        (lambda _q, _a: " the" * 50, "one token over and over"),
        (lambda q, _a: q, "the question itself"),
        (lambda q, a: f"{q} {a}", "the question itself"),
        (lambda _q, a: a + "." * 500, "502 characters"),
        (lambda _q, a: f"{a} \x1b[2J", "expected 42"),
        (lambda _q, _a: "42", "expected plinth, got"),
        (lambda q, a: "M" if "after M" in q else a, 'expected N, got "M"'),
        (lambda q, a: "It is not Paris, but Rome" if "France" in q else a, "expected Paris"),
        (lambda _q, _a: "<think>17 + 25 is 42, so I say 42", "thoughts that did not come to an end"),
    ],
)
def test_wrong_words(refused: Callable[..., str], says: Callable[[str, str], str], got: str) -> None:
    """Nonsense with status 200 is one sentence, and nothing in it moves the cursor."""
    model = Model()
    model.says = says
    sentence = refused(model, **LLM)

    assert "answers wrongly: " in sentence
    assert got in sentence
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("body", "got"),
    [
        ({"choices": []}, "an answer without choices"),
        ({"choices": [{"text": "42"}]}, "an answer without a message"),
        ({"choices": [{"message": {"role": "assistant", "text": "42"}}]}, "a message without content"),
        ({"choices": [{"message": {"role": "user", "content": "42"}}]}, "a message of the 'user'"),
        ({"choices": [{"message": {"content": ["42"]}}]}, "an answer without a message"),
        ({"response": "42"}, "an answer without choices"),
        ({"error": {"message": "out of memory"}}, "an answer without choices"),
        ([{"message": {"content": "42"}}], "which is not an object"),
        ({"choices": [{"message": {"content": None, "reasoning": "42"}}]}, "thoughts that did not come to"),
    ],
)
def test_the_right_answer_in_the_wrong_place(refused: Callable[..., str], body: object, got: str) -> None:
    """A client would not find it there."""
    model = Model()
    model.extra["/v1/chat/completions"] = lambda _request: reply(body)

    assert got in refused(model, **LLM)


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (Reply(200, b"<html>It works!</html>", 0.0, "text/html"), "which is not JSON"),
        (Reply(200, b"42", 0.0, "application/json"), "which is not an object"),
        (Reply(307, b"", 0.0), "HTTP 307: an empty body"),
        (Reply(503, b"server busy", 0.0), "HTTP 503: server busy"),
        (
            Reply(200, json.dumps({"choices": [{"message": {"content": "42"}}]}).encode(), 0.0, "text/html"),
            "which says that it is text/html",
        ),
    ],
)
def test_what_is_no_answer(refused: Callable[..., str], answer: Reply, got: str) -> None:
    """HTML, redirects and errors are shown."""
    model = Model()
    model.extra["/v1/chat/completions"] = lambda _request: answer

    assert got in refused(model, **LLM)


@pytest.mark.parametrize(
    ("stream", "got"),
    [
        (b"", "a stream without a token"),
        (streamed(5, done=False), "a stream that broke off after 5 parts"),
        (b"data: {\n\n", "which is not JSON"),
        (b": ping\n" * 100_000, "a stream that does not end"),
        (b"data: " + b"x" * (5 << 20), "more than 4,194,304 bytes"),
        (json.dumps({"choices": [{"message": {"content": "1 2 3"}}]}).encode(), "a stream without a token"),
    ],
)
def test_wrong_streams(refused: Callable[..., str], stream: bytes, got: str) -> None:
    """A stream that never ends, breaks off or is none is refused."""
    model = Model()
    model.stream = lambda: stream

    assert got in refused(model, **LLM)


def test_another_answer_to_the_same_question_is_a_finding(checked: Callable[..., object]) -> None:
    """GPUs do not add in the same order twice, so this is no failure."""
    model, asked = Model(), []

    def says(question: str, answer: str) -> str:
        asked.append(question)
        return "17 + 25 = 42" if asked.count(question) > 1 else answer

    model.says = says

    assert 'the same question got "42" and then "17 + 25 = 42"' in checked(model, **LLM).findings


def test_all_roles_of_a_model_are_asked_for(
    checked: Callable[..., object], refused: Callable[..., str]
) -> None:
    """A model that chats, codes and sees must do all three."""
    roles = {**LLM, "also": ("code", "vision")}
    blind = Model()
    blind.says = lambda question, answer: "red" if "colour" in question else answer

    assert 13 == len(checked(Model(), **roles).answers)
    assert "picture? Answer with one word? expected" in refused(blind, **roles)


@given(st.text(), st.text(alphabet=st.characters(blacklist_characters="<>")))
def test_thoughts_are_taken_out_whatever_they_are(thought: str, answer: str) -> None:
    """Only what follows the thoughts is left."""
    assert answer.strip() == without_thoughts(f"<think>{thought.replace('<', '')}</think>{answer}")
    assert "" == without_thoughts(f"<think>{thought.replace('<', '')}")


@given(st.sampled_from(["!", "the ", "0", "\u00e9"]), st.integers(min_value=12, max_value=500))
def test_runs_are_seen(token: str, count: int) -> None:
    """One token over and over is one, and a sentence is none."""
    assert is_run(token * count)
    assert not is_run(f"{token}{' and so on' * 2}")
