"""Values of the wrong type at every place that our readers of a config look at: none falls over one."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import RouteError
from tasks.route.lint.check import lint
from tasks.route.merge.keys import gateway_environment, key_places
from tasks.route.merge.neutral import neutral
from tasks.route.merge.templates import PLACES, named_files

COMPLETE = tomllib.loads("""
[gateway]
bind_address = "127.0.0.1:3000"
global_outbound_http_timeout_ms = 1000
global_outbound_http_intra_stream_read_timeout_ms = 10
observability.enabled = true
auth.enabled = true
cache.enabled = true
export.otlp.traces.enabled = true
[object_storage]
type = "s3_compatible"
[postgres]
enabled = true
[rate_limiting]
backend = "valkey"
rules = [{ always = true }]
[provider_types.openai.defaults]
api_key_location = "env::MINE"
[models.m]
routing = ["p", "q"]
timeout_ms = 10
timeouts = { non_streaming = { total_ms = 10 }, streaming = { ttft_ms = 10, total_ms = 10 } }
[models.m.providers.p]
type = "anthropic"
model_name = "claude-9"
api_base = "https://api.anthropic.com/"
timeouts = { non_streaming = { total_ms = 20 }, streaming = { ttft_ms = 20, total_ms = 20 } }
[models.m.providers.q]
type = "openai"
api_base = "http://127.0.0.1:11434/v1/"
api_key_location = "env::OTHER"
timeout_ms = 20
[embedding_models.e.providers.p]
type = "vllm"
api_base = "http://127.0.0.1:11434/v1/"
timeout_ms = 9000000
[functions.f]
system_schema = "s"
[functions.f.variants.v]
model = "m"
max_tokens = 1
weight = 1
retries = { num_retries = 1 }
candidates = ["w"]
extra_body = [{ pointer = "/max_tokens", value = 1 }]
timeouts = { non_streaming = { total_ms = 5 } }
system_template = "t"
templates.t.path = "t"
[functions.f.variants.w]
model = "m"
[functions.f.experimentation]
type = "adaptive"
candidate_variants = ["v"]
fallback_variants = ["w"]
[functions.f.experimentation.namespaces.n]
type = "track_and_stop"
candidate_variants = { v = 1 }
[functions.g.variants.v]
model = "anthropic::claude-9"
[functions.g.variants.w]
model = "m"
[tools.t]
parameters = "p"
""")

Place = tuple[str | int, ...]


def places(inside: object, before: Place = ()) -> Iterator[Place]:
    """Yield every place of a config, of tables, lists and what they hold."""
    found = (
        inside.items() if isinstance(inside, dict) else enumerate(inside) if isinstance(inside, list) else ()
    )
    for key, value in found:
        yield (*before, key)
        yield from places(value, (*before, key))


def names(pattern: tuple[str, ...]) -> Place:
    """Return a place that a pattern means."""
    return tuple("v" if name == "*" else name for name in pattern)


EVERYWHERE = (*places(COMPLETE), *(names(pattern) for pattern in PLACES))
ADDRESSES = (
    "http://[::1/v1",
    "http://[x]/v1",
    "http://h:x/v1",
    "http://a\u2100b/v1",
    "//",
    "[",
    "http://",
    ":",
)
KINDS = (
    "adaptive",
    "openai",
    "anthropic",
    "env::",
    "env::A",
    "env::api\nkey",
    "static",
    "/",
    "..",
    "~",
    "a/b",
)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.sampled_from((*ADDRESSES, *KINDS)),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.sampled_from((dt.date(1979, 5, 27), dt.time(7, 32), dt.datetime(1979, 5, 27, tzinfo=dt.UTC))),
)
NAMES = st.one_of(
    st.sampled_from(
        ("type", "enabled", "providers", "variants", "namespaces", "path", "", "a.b", 'a"b', "ä")
    ),
    st.text(st.characters(codec="utf-8"), max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


def put(config: dict[str, Any], place: Place, value: object) -> None:
    """Put a value at a place, where what is above it is still a table or a list that has it."""
    inside: Any = config
    for key in place[:-1]:
        if isinstance(inside, dict):
            inside = inside.setdefault(key, {})
        elif isinstance(inside, list) and isinstance(key, int) and key < len(inside):
            inside = inside[key]
        else:
            return
    if isinstance(inside, dict | list):
        holder: Any = inside
        with contextlib.suppress(IndexError, TypeError):  # a list that is not what it was
            holder[place[-1]] = value


def look_at(config: dict[str, Any]) -> None:
    """Read a config with all that reads one; a sentence for a person is all that may be raised."""
    before = copy.deepcopy(config)
    for read in (lint, neutral, key_places, named_files, lambda seen: lint(seen, ours=seen)):
        try:
            read(config)
        except RouteError:
            continue
    assert repr(config) == repr(before)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(EVERYWHERE), VALUES), min_size=1, max_size=4))
def test_wrong_values_in_some_places(wrong: list[tuple[Place, Any]]) -> None:
    """Whatever stands in a few places, the rest is still read."""
    config = copy.deepcopy(COMPLETE)
    for place, value in wrong:
        put(config, place, copy.deepcopy(value))
    look_at(config)


@pytest.mark.parametrize("value", [["x"], {"x": 1}, [{}], 1, "http://[::1/v1"], ids=repr)
def test_a_wrong_value_in_each_place(value: object) -> None:
    """None of the places is left to chance."""
    for place in EVERYWHERE:
        config = copy.deepcopy(COMPLETE)
        put(config, place, copy.deepcopy(value))
        look_at(config)


def test_what_is_read_is_there() -> None:
    """The config that is spoilt above has something for each of its readers, or they would see nothing."""
    rules = {one.rule for one in lint(COMPLETE)}

    assert {"bind-address", "database", "anthropic-max-tokens", "timeout-above-parent"} <= rules
    assert set(key_places(COMPLETE)) == {"MINE", "OTHER", "ANTHROPIC_API_KEY", "VLLM_API_KEY"}
    assert neutral(COMPLETE) is not None
    assert len(named_files(COMPLETE)) == 3


def test_a_kind_that_is_none_asks_for_no_key() -> None:
    """TensorZero refuses it, and the other providers still get theirs."""
    text = "[models.m.providers]\na = { type = [] }\nb = { type = 'openai' }\n"

    assert gateway_environment(text, {}, {"OPENAI_API_KEY": "sk-1"}) == 'OPENAI_API_KEY="sk-1"\n'


def test_an_experiment_of_no_kind_needs_nothing() -> None:
    """It is left as it is, for TensorZero to refuse."""
    config = {
        "functions": {"f": {"experimentation": {"type": ["adaptive"], "candidate_variants": []}}},
        "object_storage": {"type": "disabled"},
    }

    assert neutral(config) is None
    assert not [one for one in lint(config) if one.rule == "database"]
