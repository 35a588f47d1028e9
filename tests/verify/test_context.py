"""The context that the plan has is really served, or the sentence says what was not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.effects.http import Reply
from tasks.verify.kinds.context import text
from tasks.verify.probe_files import DEFAULT, load
from tests.lab.answering import Model, reply, tokens

PROBE = next(one.context for one in load(DEFAULT) if one.role == "llm" and not one.models)
PLAN = {"role": "llm", "model": "m", "context": 8192, "runtime": "llama.cpp", "device": "cpu"}


def longest(model: Model) -> int:
    """Return the tokens of the longest text that was sent."""
    bodies = [one.json for one in model.requests if one.url.endswith("/chat/completions")]
    contents = [body["messages"][0]["content"] for body in bodies]
    return max(tokens(one) for one in contents if isinstance(one, str))


@pytest.mark.parametrize("context", [1024, 8192, 32768])
def test_the_whole_context_is_tried(checked: Callable[..., object], context: int) -> None:
    """The text fills at least nine tenths of the plan, and fits."""
    model = Model(context=context)
    made = checked(model, **{**PLAN, "context": context})

    assert 0.9 * (context - 64) <= longest(model) <= context
    assert 0.9 * (context - 64) <= made.performance.context <= context
    assert pytest.approx(10_000, rel=0.01) == made.performance.prompt_tokens_per_s


def test_the_facts_stand_at_the_start_and_near_the_end() -> None:
    """Texts are the same every time, and others begin otherwise."""
    made = text(PROBE, 200, seed=3)
    lines = made.splitlines()

    assert made == text(PROBE, 200, seed=3)
    assert PROBE.first.text == lines[1]
    assert 0.9 < lines.index(PROBE.last.text) / len(lines) < 1
    assert lines[0] != text(PROBE, 200, seed=2).splitlines()[0]
    assert 1 == made.count("7351") == made.count("4826")


def test_a_text_that_is_cut_in_silence_is_noticed(refused: Callable[..., str]) -> None:
    """A server that says 8192 and takes 4096 counts fewer tokens than were sent."""
    model = Model(context=4096)
    model.extra["/props"] = lambda _request: reply({"default_generation_settings": {"n_ctx": 8192}})

    assert "or more, got 4,096" in refused(model, **PLAN)


def test_a_shorter_text_that_is_cut_is_noticed(refused: Callable[..., str]) -> None:
    """Also where there is time for a part of the context alone."""
    model = Model(context=1600)
    model.per_s = 20.0
    model.extra["/props"] = lambda _request: reply({"default_generation_settings": {"n_ctx": 8192}})

    assert "or more, got 1,600" in refused(model, **PLAN)


def test_a_cut_that_is_denied_is_noticed(refused: Callable[..., str]) -> None:
    """A server that counts what was sent but has forgotten the start does not know the first fact."""
    model = Model(context=1 << 20)
    model.says = lambda question, answer: "4826" if len(question) > 20_000 else answer

    assert 'without what "The number of the blue door is 7351." says' in refused(model, **PLAN)


def test_a_server_that_says_it_takes_less_is_refused(refused: Callable[..., str]) -> None:
    """It is asked before any long text is sent."""
    model = Model(context=4096)
    sentence = refused(model, **PLAN)

    assert "how many tokens does the server take? expected 8,192 or more, got 4,096" in sentence
    assert longest(model) < 1000


def test_light_takes_the_servers_word(checked: Callable[..., object], refused: Callable[..., str]) -> None:
    """A server that was kept is not made to read its whole context again."""
    model = Model(context=8192)
    made = checked(model, light=True, **PLAN)

    assert longest(model) < 200
    assert 8192 == made.performance.context
    assert "got 4,096" in refused(Model(context=4096), light=True, **PLAN)


def test_a_slow_host_is_asked_as_much_as_there_is_time_for(checked: Callable[..., object]) -> None:
    """At 20 tokens a second, 8192 would take seven minutes; the rest is the server's own word."""
    model = Model(context=8192)
    model.per_s = 20.0
    made = checked(model, **PLAN)

    assert 2000 < longest(model) < 2500
    assert 8192 == made.performance.context
    assert any("of 8,192 tokens were tried" in one and "it says 8,192 itself" in one for one in made.findings)


def test_a_slow_host_without_a_word_is_a_finding(checked: Callable[..., object]) -> None:
    """Where nobody vouches for the rest, the record has only what was tried."""
    model = Model(context=8192)
    model.per_s = 20.0
    made = checked(model, **{**PLAN, "runtime": "external"})

    assert any("nothing else vouches for the rest" in one for one in made.findings)
    assert made.performance.context < 3000


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 7}, {"prompt_tokens": True}, {"prompt_tokens": -5}])
def test_a_server_that_does_not_count_is_refused(refused: Callable[..., str], usage: object) -> None:
    """Without a count nobody could tell whether a text was cut."""
    model = Model(context=8192)
    right = model.answer

    def uncounted(request: object) -> Reply:
        answer = Model.chat(model, request)
        if b"event" in answer.content_type.encode():
            return answer
        return reply({**answer.json(), "usage": usage})

    model.extra["/v1/chat/completions"] = uncounted

    assert right
    assert "usage.prompt_tokens that grow" in refused(model, **PLAN)


def test_no_context_in_the_plan_is_not_asked_for(checked: Callable[..., object]) -> None:
    """A server that is not ours may have any."""
    assert 0 == checked(Model(), **{**PLAN, "context": 0}).performance.context


def test_a_context_far_above_the_plan_is_a_finding(checked: Callable[..., object]) -> None:
    """It takes memory that others were promised."""
    made = checked(Model(context=32768), **PLAN)

    assert any(one.startswith("it takes 32,768 tokens and 8,192 are planned") for one in made.findings)
