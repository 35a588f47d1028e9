"""The linter's rules: what each finds, what it leaves alone, and for what a config is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import RouteError
from tasks.route.lint.check import RULES, Finding, errors, lint, refuse, warnings
from tasks.route.merge.managed import parse

CASES = Path(__file__).parents[1] / "cases" / "route"
STORAGE = '[object_storage]\ntype = "disabled"\n'
TWO = "[functions.f.variants.a]\n[functions.f.variants.b]\n"
LISTS = (
    '[functions.f.experimentation]\ntype = "static"\ncandidate_variants = ["a"]\nfallback_variants = ["b"]\n'
)


def provider(lines: str, *, name: str = "p", model: str = "models.m") -> str:
    """Return a provider of a model."""
    return f"[{model}.providers.{name}]\n{lines}\n"


def found(text: str, *environment: str) -> list[tuple[str, str]]:
    """Return rule and place of what is found in a config that has its storage."""
    return [(one.rule, one.where) for one in lint(parse(text + STORAGE), environment=environment)]


def only(text: str, *environment: str) -> Finding:
    """Return the one thing that is found."""
    (one,) = lint(parse(text + STORAGE), environment=environment)
    return one


@pytest.mark.parametrize(
    ("text", "where", "meant"),
    [
        (
            f"{TWO}{LISTS}fallback_variant = ['b']\n",
            "functions.f.experimentation.fallback_variant",
            "fallback_variants",
        ),
        (f"{TWO}{LISTS}namespace.x = {{}}\n", "functions.f.experimentation.namespace", "namespaces"),
        (
            f"{TWO}{LISTS}namespaces.x = {{ type = 'static', candidate_variant = [] }}\n",
            "functions.f.experimentation.namespaces.x.candidate_variant",
            "candidate_variants",
        ),
        (f"{TWO}{LISTS}metric = 'm'\n", "functions.f.experimentation.metric", ""),
        (
            "[functions.f.variants.a]\nretries = { num_retry = 1 }\n",
            "functions.f.variants.a.retries.num_retry",
            "num_retries",
        ),
        ("[rate_limiting]\nenable = false\n", "rate_limiting.enable", "enabled"),
        ("[postgres]\npool_size = 1\n", "postgres.pool_size", ""),
        ("[provider_types.openai]\ndefault = {}\n", "provider_types.openai.default", "defaults"),
        (
            "[provider_types.openai.defaults]\napi_key = 'none'\n",
            "provider_types.openai.defaults.api_key",
            "api_key_location",
        ),
    ],
)
def test_unknown_keys(text: str, where: str, meant: str) -> None:
    """A key that does nothing is an error, and the one that was meant is named."""
    one = only(text)

    assert (one.rule, one.where, one.severity) == ("unknown-key", where, "error")
    assert (f'(did you mean "{meant}"?)' in one.what) is bool(meant)


def test_known_keys() -> None:
    """Every key that TensorZero knows is left alone."""
    assert found(
        f"{TWO}[functions.f.experimentation]\ntype = 'adaptive'\nalgorithm = 'track_and_stop'\nmetric = 'm'\n"
        "candidate_variants = ['a', 'b']\nfallback_variants = []\nmin_samples_per_variant = 1\ndelta = 0.1\n"
        "epsilon = 0.1\nupdate_period_s = 1\nmin_prob = 0.1\nmax_samples_per_variant = 9\n"
        "[functions.f.experimentation.namespaces.x]\ntype = 'static'\ncandidate_variants = {a = 1}\n"
        "[functions.g.variants.a]\nretries = { num_retries = 1, max_delay_s = 1 }\n"
        "[rate_limiting]\nenabled = false\nbackend = 'auto'\ndefault_cost = 1\nrules = []\n"
        "[postgres]\nenabled = true\nconnection_pool_size = 1\ninference_metadata_retention_days = 1\n"
        "inference_data_retention_days = 1\n"
        "[provider_types.fireworks]\nsft = {}\ndefaults = { api_key_location = 'none' }\n",
        "TENSORZERO_POSTGRES_URL",
    ) == []  # fmt: skip


def test_no_variants() -> None:
    """A function without any variant fails each time; one with a variant does not."""
    assert found("[functions.f.variants]\n") == [("no-variants", "functions.f.variants")]
    assert found("[functions.f.variants.a]\n") == []


@pytest.mark.parametrize(
    ("more", "reached"),
    [
        ("candidate_variants = ['a']\n", False),
        ("candidate_variants = { a = 1.0, b = 0.0 }\n", False),
        ("candidate_variants = { a = 1.0, b = 0.1 }\n", True),
        ("candidate_variants = ['a']\nfallback_variants = ['b']\n", True),
        (
            "candidate_variants = ['a']\nnamespaces.x = { type = 'static', candidate_variants = ['b'] }\n",
            True,
        ),
        ("candidate_variants = ['a']\n[functions.f.variants.a]\ncandidates = ['b']\n", True),
    ],
)
def test_unreachable(more: str, reached: bool) -> None:  # noqa: FBT001  # a case of the table
    """A variant answers when a list, a namespace or another variant names it."""
    head = "[functions.f.variants.b]\n[functions.f.experimentation]\ntype = 'static'\n"
    tail = "" if "variants.a]" in more else "[functions.f.variants.a]\n"

    assert found(head + more + tail) == (
        [] if reached else [("unreachable-variant", "functions.f.variants.b")]
    )


def test_sampled_and_weights() -> None:
    """More than one variant needs an order; odds are none."""
    assert found(TWO) == [("sampled", "functions.f")]
    assert found("[functions.f.variants.a]\nweight = 1.0\n[functions.f.variants.b]\n") == [
        ("weight", "functions.f")
    ]
    assert found(TWO + LISTS) == []
    assert found("[functions.f.variants.a]\n") == []


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("http://127.0.0.1:11434/v1/", ""),
        ("https://api.groq.com/openai/v1", ""),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", ""),
        ("http://127.0.0.1:11434", "api-base-version"),
        ("http://127.0.0.1:11434/api/", "api-base-version"),
        ("http://127.0.0.1:1/v1/chat/completions", "api-base"),
        ("http://127.0.0.1:1/v1/embeddings/", "api-base"),
        ("ftp://127.0.0.1/v1/", "api-base"),
        ("localhost:11434/v1", "api-base"),
        ("env::OLLAMA_URL", "api-base"),
        ("http://[::1/v1", "api-base"),
        ("http://[::1]:11434/v1", ""),
    ],
)
def test_addresses(address: str, rule: str) -> None:
    """An address is http, ends where the API begins, and stands there itself."""
    place = "models.m.providers.p.api_base"

    assert found(provider(f"type = 'openai'\napi_base = '{address}'")) == ([(rule, place)] if rule else [])


def test_addresses_of_other_kinds() -> None:
    """Kinds with an API of their own have no /v1, and a broken port is none of this rule's business."""
    assert found(provider("type = 'anthropic'\napi_base = 'https://api.anthropic.com/'")) == []
    assert found(provider("type = 'openai'\napi_base = 'http://h:x/v1/'")) == []


def test_sglang() -> None:
    """The kind with the endless loop is named wherever it stands."""
    assert found(provider("type = 'sglang'", model="embedding_models.e")) == [
        ("sglang", "embedding_models.e.providers.p.type")
    ]


@pytest.mark.parametrize(
    ("name", "more", "hit"),
    [
        ("claude-opus-9", "", True),
        ("claude-opus-9", "max_tokens = 9", False),
        ("claude-sonnet-4-5", "", False),
        ("claude-3-5-haiku-latest", "", False),
    ],
)
def test_anthropic(name: str, more: str, hit: bool) -> None:  # noqa: FBT001  # a case of the table
    """An Anthropic model that TensorZero does not know needs a limit, by name and by shorthand."""
    want = [("anthropic-max-tokens", "functions.f.variants.a")] if hit else []

    named = f"[functions.f.variants.a]\nmodel = 'm'\n{more}\n"
    assert found(named + provider(f"type = 'anthropic'\nmodel_name = '{name}'")) == want
    assert found(f"[functions.f.variants.a]\nmodel = 'anthropic::{name}'\n{more}\n") == want


@pytest.mark.parametrize(
    ("lines", "name", "more", "hit"),
    [
        ("api_base = 'http://h:11434/v1/'", "p", "", True),
        ("api_base = 'http://pmoves-ollama:1/v1/'", "p", "", True),
        ("api_base = 'http://h:1/v1/'", "ollama", "", True),
        ("api_base = 'http://h:1/v1/'", "vllm", "", False),
        (
            "api_base = 'http://h:11434/v1/'",
            "p",
            "extra_body = [{ pointer = '/max_tokens', value = 1 }]",
            False,
        ),
    ],
)
def test_ignored_cap(lines: str, name: str, more: str, hit: bool) -> None:  # noqa: FBT001  # a case of the table
    """A cap for Ollama has to be in extra_body."""
    text = f"[functions.f.variants.a]\nmodel = 'm'\nmax_tokens = 7\n{more}\n"

    result = found(text + provider(f"type = 'openai'\n{lines}", name=name))

    assert result == ([("ignored-max-tokens", "functions.f.variants.a.max_tokens")] if hit else [])


@pytest.mark.parametrize("kind", ["non_streaming.total_ms", "streaming.ttft_ms", "streaming.total_ms"])
def test_timeouts_above_their_parent(kind: str) -> None:
    """A provider ends before its model, and both before each variant that uses them."""
    inner, model = provider(f"timeouts.{kind} = 30"), "[models.m]\nrouting = ['p']\n"
    variant = "[functions.f.variants.a]\nmodel = 'm'\n"
    rule = "timeout-above-parent"

    assert found(f"{model}timeouts.{kind} = 20\n{inner}") == [(rule, f"models.m.providers.p.timeouts.{kind}")]
    assert found(f"{model}{inner}{variant}timeouts.{kind} = 20\n") == [
        (rule, f"models.m.providers.p.timeouts.{kind}")
    ]
    assert found(f"{model}timeouts.{kind} = 30\n{variant}timeouts.{kind} = 20\n") == [
        (rule, f"models.m.timeouts.{kind}")
    ]
    assert found(f"{model}timeouts.{kind} = 30\n{inner}{variant}timeouts.{kind} = 30\n") == []


def test_timeouts_of_embedding_models() -> None:
    """They have one kind of time-out, and TensorZero does not hold it against the global one."""
    own = "embedding_models.e"
    text = f"[{own}]\nrouting = ['p']\n" + "{}" + provider("timeout_ms = {}", model=own)
    gateway = "[gateway]\nglobal_outbound_http_timeout_ms = 1000\n"

    assert found(text.format("timeout_ms = 20\n", 30)) == [
        ("timeout-above-parent", f"{own}.providers.p.timeout_ms")
    ]
    assert found(gateway + text.format("", 1001)) == [
        ("timeout-above-global", f"{own}.providers.p.timeout_ms")
    ]
    assert found(text.format("", 900_001)) == [("timeout-above-global", f"{own}.providers.p.timeout_ms")]
    assert found(text.format("timeout_ms = 900000\n", 900_000)) == []


@pytest.mark.parametrize(
    ("first", "second", "hit"),
    [("", "", True), ("20", "", True), ("19", "", False), ("10", "9", False), ("10", "10", True)],
)
def test_model_timeouts_cap_the_routing_list(first: str, second: str, hit: bool) -> None:  # noqa: FBT001  # a case
    """Time-outs of a model hold for all providers together; it is asked in vain for the last one."""
    kind = "timeouts.non_streaming.total_ms"
    names = ["p", "q", "r"] if second else ["p", "r"]
    text = f"[models.m]\nrouting = {names}\n{kind} = 20\n"
    text += provider(f"{kind} = {first}" if first else "") + provider("", name="r")
    text += provider(f"{kind} = {second}", name="q") if second else ""

    assert found(text) == ([("timeout-caps-routing", f"models.m.{kind}")] if hit else [])


def test_read_timeout() -> None:
    """The time between two bytes is not below the longest answer in one piece."""
    text = "[gateway]\nglobal_outbound_http_intra_stream_read_timeout_ms = 1000\n"
    kind = "timeouts.non_streaming.total_ms"

    assert found(text + provider(f"{kind} = 1001")) == [
        ("read-timeout", "gateway.global_outbound_http_intra_stream_read_timeout_ms")
    ]
    assert found(text + provider(f"{kind} = 1000")) == []
    assert found(provider(f"{kind} = 1001")) == []


def test_object_storage() -> None:
    """Without the table no image can be sent."""
    assert [one.rule for one in lint({})] == ["object-storage"]


@pytest.mark.parametrize(
    ("text", "where", "enough"),
    [
        ("[gateway]\nobservability.enabled = true\n", "gateway.observability", "TENSORZERO_CLICKHOUSE_URL"),
        ("[gateway]\nobservability.enabled = true\n", "gateway.observability", "TENSORZERO_POSTGRES_URL"),
        ("[gateway]\nauth.enabled = true\n", "gateway.auth", "TENSORZERO_POSTGRES_URL"),
        ("[gateway]\ncache.enabled = true\n", "gateway.cache", "TENSORZERO_VALKEY_URL"),
        ("[[rate_limiting.rules]]\nalways = true\n", "rate_limiting", "TENSORZERO_VALKEY_URL"),
        ("[postgres]\nenabled = true\n", "postgres", "TENSORZERO_POSTGRES_URL"),
        (
            "[functions.f.variants.a]\n[functions.f.experimentation]\ntype = 'adaptive'\nmetric = 'm'\n",
            "functions.f.experimentation",
            "TENSORZERO_POSTGRES_URL",
        ),
        (
            f"{TWO}{LISTS}namespaces.x = {{ type = 'track_and_stop', metric = 'm' }}\n",
            "functions.f.experimentation.namespaces.x",
            "TENSORZERO_POSTGRES_URL",
        ),
    ],
)
def test_databases(text: str, where: str, enough: str) -> None:
    """What needs a database is an error where the gateway has none, and fine where it has."""
    assert found(text) == [("database", where)]
    assert found(text, enough) == []


def test_databases_that_are_off() -> None:
    """A switch that is off needs nothing."""
    assert found(
        "[gateway]\nobservability.enabled = false\nauth.enabled = false\ncache.enabled = false\n"
        "[rate_limiting]\nenabled = false\n[[rate_limiting.rules]]\nalways = true\n"
    ) == []  # fmt: skip


def test_own_address() -> None:
    """The rollout gives each gateway its address."""
    one = only("[gateway]\nbind_address = '0.0.0.0:3000'\n")

    assert (one.rule, one.where, one.severity) == ("bind-address", "gateway.bind_address", "error")


def test_shapes_that_tensorzero_refuses_are_skipped() -> None:
    """A config of the wrong shape is TensorZero's to refuse; the linter does not fall over it."""
    wrong = parse(
        "gateway = 1\nmodels = []\nobject_storage = 1\nrate_limiting = 'x'\nprovider_types = { openai = 1 }\n"
        "functions.f = 1\n"
        "functions.g = { variants = { a = 1, b = 2 }, experimentation = { candidate_variants = 1 } }\n"
        "functions.h.variants.a = { model = 1, retries = 1, extra_body = 1, max_tokens = 1, timeouts = 1 }\n"
        "embedding_models = { e = { routing = 1, timeout_ms = 'x', providers = { p = { api_base = 1 } } } }\n"
    )

    assert {one.rule for one in lint(wrong)} <= {"unreachable-variant"}


def test_ours_may_have_no_warning() -> None:
    """A warning is an error in what we wrote ourselves, and stays one in what a person wrote beside it."""
    config = parse(TWO + TWO.replace(".f.", ".mine.") + STORAGE)
    ours = {"functions": {"f": config["functions"]["f"]}}

    assert [(one.where, one.severity) for one in lint(config, ours=ours)] == [
        ("functions.f", "error"),
        ("functions.mine", "warning"),
    ]


def test_refuse() -> None:
    """The sentence has the first places and steps, and counts the rest; warnings alone refuse nothing."""
    findings = lint(
        parse("[gateway]\nbind_address = 'x'\n[functions.f]\nvariants = {}\n" + TWO.replace(".f.", ".g."))
    )
    refuse([one for one in findings if one.severity == "warning"], "tensorzero.toml")
    with pytest.raises(RouteError) as caught:
        refuse(findings, "mine.toml")

    assert caught.value.what == (
        "functions.f.variants of mine.toml: there is none, so each request fails, "
        "object_storage of mine.toml: without it each request with an image or a file is answered with 500 "
        "and gateway.bind_address of mine.toml: each gateway gets a port of its own when it is started, "
        "and does not start with two addresses"
    )
    assert caught.value.then == (
        'add a variant, or take it out, then add [object_storage] with type = "disabled", '
        "then take it out: the proxy has the public port"
    )
    assert [one.rule for one in errors(findings)] == ["no-variants", "object-storage", "bind-address"]
    assert [one.split(":")[0] for one in warnings(findings)] == ["functions.g"]


@pytest.mark.parametrize("case", sorted((CASES / "rendered").glob("*.toml")), ids=lambda path: path.stem)
def test_what_we_render_has_no_fault(case: Path) -> None:
    """None of our own configs has anything that the linter finds."""
    config = parse(case.read_text())

    assert lint(config, ours=config) == ()


def test_rules_have_names_of_their_own() -> None:
    """A rule is found by its name."""
    assert len({rule.name for rule in RULES}) == len(RULES)
