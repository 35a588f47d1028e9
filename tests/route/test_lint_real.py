"""Each rule of the linter, shown by the real TensorZero: it takes the config, and the request goes wrong.

The rules about databases are the exception: TensorZero refuses those itself, where the gateway has none.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.route.lint.check import RULES, lint
from tasks.route.merge.managed import parse
from tests.lab.lint_upstream import CHAT, Loaded, Said, Strict

pytestmark = pytest.mark.real

HEAD = "[gateway]\nobservability.enabled = false\n"
BASE = f'{HEAD}[object_storage]\ntype = "disabled"\n'
FUNCTION = '[functions.f]\ntype = "chat"\n'
A = '[functions.f.variants.a]\ntype = "chat_completion"\nmodel = "a"\n'
B = '[functions.f.variants.b]\ntype = "chat_completion"\nmodel = "b"\n'
STATIC = '[functions.f.experimentation]\ntype = "static"\n'
IMAGE = {
    "role": "user",
    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}],
}
SHOWN: set[str] = set()


def rule_found(config: str) -> str:
    """Return the rule by which the linter finds the config's one fault."""
    (rule,) = {one.rule for one in lint(parse(config))}
    SHOWN.add(rule)
    return rule


def test_misspelt_fallback(tmp_path: Path) -> None:
    """A misspelt list is taken without a word, and the function has no fallback; the right one has."""
    lists = 'candidate_variants = ["a"]\n{} = ["b"]\n'
    with Strict(broken=True) as down, Strict() as up:
        head = BASE + down.model("a") + up.model("b") + FUNCTION + A + B + STATIC
        wrong = head + lists.format("fallback_variant")
        with Loaded(tmp_path, wrong) as gateway:
            assert gateway.ask().status == 502
        with Loaded(tmp_path, head + lists.format("fallback_variants")) as gateway:
            assert gateway.ask() == Said(200, "b")

    assert {one.rule for one in lint(parse(wrong))} == {"unknown-key", "unreachable-variant"}


def test_misspelt_namespace(tmp_path: Path) -> None:
    """A misspelt `namespaces` does nothing: what is marked goes where all else goes."""
    more = 'candidate_variants = ["a"]\nfallback_variants = ["b"]\n'
    special = "[functions.f.experimentation.{}.complex]\ntype = 'static'\ncandidate_variants = ['b']\n"
    with Strict() as up:
        head = BASE + up.model("a") + up.model("b") + FUNCTION + A + B + STATIC + more
        wrong = head + special.format("namespace")
        with Loaded(tmp_path, wrong) as gateway:
            assert gateway.ask(**{"tensorzero::namespace": "complex"}) == Said(200, "a")
        with Loaded(tmp_path, head + special.format("namespaces")) as gateway:
            assert gateway.ask(**{"tensorzero::namespace": "complex"}) == Said(200, "b")

    assert rule_found(wrong) == "unknown-key"


def test_misspelt_retries(tmp_path: Path) -> None:
    """A misspelt number of retries is none."""
    retries = "retries = {{ {} = 2, max_delay_s = 0 }}\n"
    with Strict(broken=True) as down:
        head = BASE + down.model("a") + FUNCTION + A
        wrong = head + retries.format("num_retry")
        with Loaded(tmp_path, wrong) as gateway:
            gateway.ask()
        assert len(down.asked) == 1
        with Loaded(tmp_path, head + retries.format("num_retries")) as gateway:
            gateway.ask()
        assert len(down.asked) == 4

    assert rule_found(wrong) == "unknown-key"


@pytest.mark.parametrize(
    "table",
    [
        "[rate_limiting]\nenable = true\n",
        "[postgres]\nenable = true\n",
        '[provider_types.openai]\ndefault = { api_key_location = "none" }\n',
        '[provider_types.openai.defaults]\napi_key_location = "none"\nkey = "none"\n',
    ],
)
def test_unknown_keys_of_other_tables(tmp_path: Path, table: str) -> None:
    """These tables take any key; what it should have done is not done, and nothing is said."""
    with Strict() as up:
        config = BASE + up.model("a") + FUNCTION + A + table
        with Loaded(tmp_path, config) as gateway:
            assert gateway.ask() == Said(200, "a")

    assert rule_found(config) == "unknown-key"


def test_no_variants(tmp_path: Path) -> None:
    """A function without variants loads and answers 500."""
    config = f"{BASE}{FUNCTION}variants = {{}}\n"
    with Loaded(tmp_path, config) as gateway:
        assert gateway.ask() == Said(500, "Function `f` has no variants")

    assert rule_found(config) == "no-variants"


def test_unreachable(tmp_path: Path) -> None:
    """A variant in neither list is not asked, though it would have answered."""
    with Strict(broken=True) as down, Strict() as up:
        config = (
            BASE
            + down.model("a")
            + up.model("b")
            + FUNCTION
            + A
            + B
            + f'{STATIC}candidate_variants = ["a"]\n'
        )
        with Loaded(tmp_path, config) as gateway:
            assert gateway.ask().status == 502
        assert up.asked == []

    assert rule_found(config) == "unreachable-variant"


@pytest.mark.parametrize(
    ("weights", "rule"), [(("", ""), "sampled"), (("weight = 1.0\n", "weight = 0.5\n"), "weight")]
)
def test_no_order(tmp_path: Path, weights: tuple[str, str], rule: str) -> None:
    """Without an experimentation section, and with weights, 60 requests do not all go to one."""
    with Strict() as up:
        config = BASE + up.model("a") + up.model("b") + FUNCTION + A + weights[0] + B + weights[1]
        with Loaded(tmp_path, config) as gateway:
            assert set(gateway.drawn(60)) == {"a", "b"}

    assert rule_found(config) == rule


@pytest.mark.parametrize(
    ("path", "arrives_at", "rule"),
    [
        ("", "/chat/completions", "api-base-version"),
        ("/v1/chat/completions", "/v1/chat/completions/chat/completions", "api-base"),
    ],
)
def test_wrong_paths(tmp_path: Path, path: str, arrives_at: str, rule: str) -> None:
    """An address that does not end in /v1 is asked where the server has nothing."""
    with Strict() as up:
        config = BASE + up.model("a", path=path) + FUNCTION + A
        with Loaded(tmp_path, config) as gateway:
            assert gateway.ask().status == 502
        assert [where for where, _ in up.asked] == [arrives_at]

    assert rule_found(config) == rule


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/v1/", "env::OLLAMA_URL", "localhost:11434/v1"])
def test_no_address(tmp_path: Path, address: str) -> None:
    """What is no http address loads, and no request leaves."""
    with Strict() as up:
        config = BASE + up.model("a").replace(f"{up.root}/v1/", address) + FUNCTION + A
        with Loaded(tmp_path, config) as gateway:
            assert gateway.ask().status == 502

    assert rule_found(config) == "api-base"


ENDLESS = """\
import json, sys, threading, urllib.request
from tensorzero.tensorzero import _start_http_gateway
nothing = dict.fromkeys(("clickhouse_url", "postgres_url", "valkey_url"))
gateway = _start_http_gateway(config_file=sys.argv[1], async_setup=False, **nothing)
said = [{"role": "user", "content": "?"}]
body = {"model": "tensorzero::function_name::f", "stream": True, "messages": said}
request = urllib.request.Request(gateway.base_url + "/chat/completions", json.dumps(body).encode(),
                                 {"content-type": "application/json"})
errors = 0
for line in urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60):
    errors += b'"error"' in line
    if errors >= 1000:
        break
print(errors, flush=True)
"""


@pytest.mark.parametrize(("kind", "errors"), [("sglang", 1000), ("openai", 1)])
def test_sglang(tmp_path: Path, kind: str, errors: int) -> None:
    """A stream that stops ends in one error, and with the kind sglang in errors without end."""
    reading = "global_outbound_http_intra_stream_read_timeout_ms = 1000\n"
    with Strict(hangs=True) as slow:
        config = BASE.replace("[object", f"{reading}[object") + slow.model("a", kind=kind)
        path = tmp_path / "tensorzero.toml"
        path.write_text(config + FUNCTION + A)
        process = subprocess.Popen(
            (sys.executable, "-c", ENDLESS, str(path)),
            env={"RUST_LOG": "", "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{errors}\n"
        finally:
            process.kill()
            process.communicate(timeout=30)

    if kind == "sglang":
        assert rule_found(config + FUNCTION + A) == "sglang"


def test_anthropic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that TensorZero does not know fails before it is asked; a known one, or a limit, does not."""
    monkeypatch.setenv("SOME_KEY", "dummy")
    with Strict() as up:
        model = up.model("a", kind="anthropic").replace('"none"', '"env::SOME_KEY"')
        known, unknown = model.replace('"m"', '"claude-sonnet-4-5"'), model.replace('"m"', '"claude-opus-9"')
        wrong = BASE + unknown + FUNCTION + A
        with Loaded(tmp_path, wrong) as gateway:
            assert "doesn't know the output token limit for `claude-opus-9`" in gateway.ask().words
        assert up.asked == []
        for config in (BASE + known + FUNCTION + A, f"{wrong}max_tokens = 9\n"):
            with Loaded(tmp_path, config) as gateway:
                assert gateway.ask() == Said(200, "a")
            assert lint(parse(config)) == ()

    assert rule_found(wrong) == "anthropic-max-tokens"


def test_ignored_cap(tmp_path: Path) -> None:
    """The cap arrives under a name that Ollama does not read; through extra_body under its own."""
    with Strict() as up:
        ollama = up.model("a").replace('"p"', '"ollama"').replace("providers.p", "providers.ollama")
        wrong = f"{BASE}{ollama}{FUNCTION}{A}max_tokens = 7\n"
        right = f'{BASE}{ollama}{FUNCTION}{A}extra_body = [{{ pointer = "/max_tokens", value = 7 }}]\n'
        for config in (wrong, right):
            with Loaded(tmp_path, config) as gateway:
                assert gateway.ask() == Said(200, "a")

    (_, first), (_, second) = up.asked
    assert (first.get("max_tokens"), first.get("max_completion_tokens")) == (None, 7)
    assert second.get("max_tokens") == 7
    assert rule_found(wrong) == "ignored-max-tokens"
    assert lint(parse(right)) == ()


def test_timeout_above_its_parent(tmp_path: Path) -> None:
    """The provider's time-out never comes: the model's ends the request."""
    with Strict(hangs=True) as slow:
        config = (
            BASE
            + slow.model(
                "a",
                more="timeouts.non_streaming.total_ms = 300",
                provider="timeouts.non_streaming.total_ms = 20000",
            )
            + FUNCTION
            + A
        )
        begun = time.monotonic()
        with Loaded(tmp_path, config) as gateway:
            assert (
                "Model a timed out due to configured `non_streaming.total_ms` timeout (300ms)"
                in gateway.ask().words
            )
        assert time.monotonic() - begun < 15

    assert rule_found(config) == "timeout-above-parent"


def test_model_timeout_caps_the_routing_list(tmp_path: Path) -> None:
    """The second provider is not asked when the first hangs; with a time-out of its own it is."""
    both = '[models.a]\nrouting = ["slow", "up"]\n{}\n'
    one = (
        '[models.a.providers.{}]\ntype = "openai"\napi_base = "{}/v1/"\nmodel_name = "m"\n'
        'api_key_location = "none"\n{}\n'
    )
    kind = "timeouts.non_streaming.total_ms = 300"
    with Strict(hangs=True) as slow, Strict() as up:
        tail = one.format("up", up.root, "") + FUNCTION + A
        wrong = BASE + both.format(kind) + one.format("slow", slow.root, "") + tail
        right = BASE + both.format("") + one.format("slow", slow.root, kind) + tail
        with Loaded(tmp_path, wrong) as gateway:
            assert gateway.ask().status == 502
        assert up.asked == []
        with Loaded(tmp_path, right) as gateway:
            assert gateway.ask() == Said(200, "a")

    assert rule_found(wrong) == "timeout-caps-routing"
    assert lint(parse(right)) == ()


def test_embedding_timeout_above_the_global_one(tmp_path: Path) -> None:
    """It loads, and the global one ends the request; for a chat model TensorZero refuses the same."""
    most = "global_outbound_http_timeout_ms = 300\n"
    head = BASE.replace("[object", f"{most}[object")
    with Strict(hangs=True) as slow:
        model = slow.model("e", provider="timeout_ms = 20000").replace("models.", "embedding_models.")
        with Loaded(tmp_path, head + model) as gateway:
            assert "global_outbound_http_timeout_ms" in gateway.embed().words
        chat = head + slow.model("a", provider="timeouts.non_streaming.total_ms = 20000") + FUNCTION + A
        with pytest.raises(Exception, match="global_outbound_http_timeout_ms"), Loaded(tmp_path, chat):
            pass

    assert rule_found(head + model) == "timeout-above-global"


def test_read_timeout(tmp_path: Path) -> None:
    """The time between two bytes also ends an answer that comes in one piece."""
    reading = "global_outbound_http_intra_stream_read_timeout_ms = 300\n"
    with Strict(hangs=True) as slow:
        model = slow.model("a", provider="timeouts.non_streaming.total_ms = 20000")
        config = BASE.replace("[object", f"{reading}[object") + model + FUNCTION + A
        with Loaded(tmp_path, config) as gateway:
            assert "intra_stream_read_timeout_ms" in gateway.ask().words

    assert rule_found(config) == "read-timeout"


def test_no_storage(tmp_path: Path) -> None:
    """An image is answered with 500, and with the table it arrives."""
    with Strict() as up:
        tail = up.model("a") + FUNCTION + A
        with Loaded(tmp_path, HEAD + tail) as gateway:
            assert gateway.ask(messages=[IMAGE]).status == 500
        assert up.asked == []
        with Loaded(tmp_path, BASE + tail) as gateway:
            assert gateway.ask(messages=[IMAGE]) == Said(200, "a")
        assert [where for where, _ in up.asked] == [CHAT]

    assert rule_found(HEAD + tail) == "object-storage"


def test_address_of_the_gateway(tmp_path: Path) -> None:
    """The address in the file is taken and not used by the wheel; the image refuses a second one."""
    config = BASE.replace("[object", 'bind_address = "127.0.0.1:9"\n[object')
    with Loaded(tmp_path, config) as gateway:
        assert not gateway.base_url.startswith("http://127.0.0.1:9/")

    assert rule_found(config) == "bind-address"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (BASE.replace("= false", "= true"), "Observability is enabled but no backend is available"),
        (BASE.replace("[object", "auth.enabled = true\n[object"), "Authentication requires Postgres"),
        (BASE.replace("[object", "cache.enabled = true\n[object"), "the cache backend .* is not available"),
        (BASE + "[[rate_limiting.rules]]\nalways = true\ntokens_per_day = 1\n", "no backend is available"),
        (BASE + "[postgres]\nenabled = true\n", "TENSORZERO_POSTGRES_URL"),
        (
            BASE
            + '[metrics.m]\ntype = "boolean"\noptimize = "max"\nlevel = "inference"\n'
            + FUNCTION
            + A.replace('"a"', '"openai::m"')
            + B.replace('"b"', '"openai::m"')
            + STATIC.replace("static", "adaptive")
            + 'algorithm = "track_and_stop"\nmetric = "m"\ncandidate_variants = ["a", "b"]\n',
            "requires Postgres",
        ),
    ],
)
def test_databases(tmp_path: Path, config: str, said: str) -> None:
    """Without a database TensorZero does not start with these, so the linter says it before one is tried."""
    with pytest.raises(Exception, match=said), Loaded(tmp_path, config):
        pass

    assert rule_found(config) == "database"


def test_every_rule_was_shown() -> None:
    """No rule is without a test above. Runs last, and only where all of them ran."""
    if len(SHOWN) < 2:
        pytest.skip("the other tests of this file did not run")

    assert {rule.name for rule in RULES} == SHOWN
