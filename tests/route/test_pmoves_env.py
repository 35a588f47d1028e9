"""What PMOVES services read: the right names and values, in a file that may be the operator's own."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts import (
    PlannedRoute,
    RerankApi,
    Role,
    RouteTier,
    RuntimeName,
    UnpinnedRepo,
    VerifiedServer,
)
from tasks.errors import RouteError
from tasks.route.merge.block import BEGIN, BOM, END
from tasks.route.merge.env_text import Assignment, read
from tasks.route.merge.pmoves_env import merge_env, pmoves_env, unmerge_env
from tests.lab.verified import verified_server

DOCUMENT = Path(__file__).parents[2] / "docs" / "pmoves-env.md"
BASE = "http://127.0.0.1:3000/openai/v1"
VALUES = (("TENSORZERO_BASE_URL", "http://127.0.0.1:3000"), ("RERANK_MODEL", "maker/model"), ("A", "b c"))
BLOCK = f'{BEGIN}\nTENSORZERO_BASE_URL=http://127.0.0.1:3000\nRERANK_MODEL=maker/model\nA="b c"\n{END}\n'
HAND = '# Mine\nexport HF_TOKEN="abc"   # no\n\nDISCORD=\nKEY="-----BEGIN\n# >>> pmoves-provisioner\nEND"\n'


def server(
    role: Role,
    runtime: RuntimeName,
    port: int,
    *,
    model: str = "m",
    repo: str = "",
    asked: str = "",
    api: RerankApi = "",
) -> VerifiedServer:
    """Return a verified server whose model comes from a repository of the hub."""
    made = verified_server(model, role=role, runtime=runtime, base_url=f"http://127.0.0.1:{port}/v1")
    planned = dataclasses.replace(
        made.server.planned,
        weights=None,
        repo=UnpinnedRepo(repo=repo, size_bytes=1, unpinned="test") if repo else None,
    )
    changed = dataclasses.replace(made.server, planned=planned, model_id=asked, rerank_api=api)
    return dataclasses.replace(made, server=changed)


def route(function: str, role: Role = "llm", *, tiers: int = 1) -> PlannedRoute:
    """Return a function of the gateway."""
    return PlannedRoute(function, "s", role, "p", (RouteTier("local", "local", "m"),) * tiers)


def test_all_that_can_be_served() -> None:
    """Gateway, embedding model, language model, Ollama, reranker and whisper, each as its readers want it."""
    verified = (
        server("llm", "ollama", 11434, model="qwen3-8b", asked="qwen3:8b"),
        server("embeddings", "ollama", 11434, model="nomic-embed-text", asked="nomic-embed-text:v1.5"),
        server("reranker", "tei", 8103, repo="BAAI/bge-reranker-base", api="tei"),
        server("whisper", "speaches", 8104, repo="Systran/faster-whisper-small"),
    )
    routes = (route("vision", "vision"), route("archon"), route("agent_zero"))

    assert pmoves_env(verified, routes, BASE) == (
        ("OLLAMA_API_BASE", "http://127.0.0.1:11434"),
        ("OLLAMA_BASE_URL", "http://127.0.0.1:11434"),
        ("OLLAMA_EMBED_MODEL", "nomic-embed-text:v1.5"),
        ("OLLAMA_URL", "http://127.0.0.1:11434"),
        ("OPENAI_COMPATIBLE_BASE_URL_STT", "http://127.0.0.1:8104/v1"),
        ("RERANK_API", "tei"),
        ("RERANK_MODEL", "BAAI/bge-reranker-base"),
        ("RERANK_URL", "http://127.0.0.1:8103/rerank"),
        ("TENSORZERO_BASE_URL", "http://127.0.0.1:3000"),
        ("TENSORZERO_EMBED_MODEL", "tensorzero::embedding_model_name::nomic-embed-text"),
        ("TENSORZERO_MODEL", "tensorzero::function_name::agent_zero"),
        ("TENSORZERO_URL", "http://127.0.0.1:3000"),
        ("WHISPER_MODEL", "Systran/faster-whisper-small"),
    )


def test_what_is_not_there_is_not_said() -> None:
    """Without servers there is the gateway alone, and a function that nobody serves is not named."""
    assert pmoves_env((), (route("chat", tiers=0),), "http://h:1/") == (
        ("TENSORZERO_BASE_URL", "http://h:1"),
        ("TENSORZERO_URL", "http://h:1"),
    )


def test_files_that_services_cannot_load() -> None:
    """A GGUF is no name that Hi-RAG could load a reranker by; the address is there all the same."""
    verified = (server("reranker", "llama.cpp", 8103, repo="maker/Reranker-4B-GGUF-llama_cpp", api="jina"),)
    found = dict(pmoves_env(verified, (), BASE))

    assert found["RERANK_URL"] == "http://127.0.0.1:8103/v1/rerank"
    assert found["RERANK_API"] == "jina"
    assert "RERANK_MODEL" not in found


def test_the_order_of_verification_changes_nothing() -> None:
    """The same servers give the same lines."""
    verified = (server("embeddings", "tei", 8101, model="b"), server("embeddings", "tei", 8102, model="a"))

    assert pmoves_env(verified, (), BASE) == pmoves_env(verified[::-1], (), BASE)
    assert dict(pmoves_env(verified, (), BASE))["TENSORZERO_EMBED_MODEL"].endswith("::a")


def test_every_name_is_documented() -> None:
    """docs/pmoves-env.md has a row for each name that is written, and no other."""
    verified = (
        server("embeddings", "ollama", 11434),
        server("reranker", "tei", 8103, repo="a/b"),
        server("whisper", "speaches", 8104, repo="a/b"),
    )
    rows = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text().partition("\n## Not")[0], re.MULTILINE))

    assert rows == {name for name, _ in pmoves_env(verified, (route("chat"),), BASE)}


def test_what_a_merged_file_looks_like() -> None:
    """The hand-written lines, and ours behind them."""
    assert f"{HAND}\n{BLOCK}" == merge_env(HAND, VALUES)
    assert merge_env("", VALUES) == BLOCK
    assert unmerge_env(BLOCK) == ""


NAMES = st.sampled_from(("A_1", "B", "_c", "X"))
PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0\"'", exclude_categories=("Cs", "Cc")), max_size=8
)
INSIDE = st.lists(st.sampled_from((BEGIN, END, "a", "", "é $x # `"))).map("\n".join)
LINES = st.one_of(
    st.tuples(st.sampled_from(("", "export ", "  ")), NAMES, st.sampled_from(("=", " = ")), PLAIN).map(
        "".join
    ),
    st.tuples(NAMES, INSIDE).map(lambda part: f'{part[0]}="{part[1]}"'),
    st.tuples(NAMES, INSIDE).map(lambda part: f"{part[0]}='{part[1]}' # why"),
    st.sampled_from(
        ("", "  ", "# a comment with ' and \"", "no assignment", "=x", "#>>> pmoves-provisioner")
    ),
)
FILES = st.tuples(
    st.sampled_from(("", BOM)),
    st.lists(LINES, max_size=8).map("\n".join),
    st.sampled_from(("\n", "\r\n")),
    st.sampled_from(("", "\n", "\r", "\n\n", "\nlast=1")),
).map(lambda part: part[0] + (part[1] + part[3]).replace("\n", part[2]))


@settings(max_examples=300, deadline=None)
@given(FILES)
def test_nothing_of_the_hand_is_touched(hand: str) -> None:
    """Whatever a person wrote comes back byte for byte, and is read as before with ours behind it."""
    values = (("OURS", "1"), ("ALSO_OURS", "a b"))
    merged = merge_env(hand, values)

    assert merged.startswith(hand)
    assert hand == unmerge_env(merged)
    assert hand == unmerge_env(hand)
    assert merged == merge_env(merged, values)
    assert merged == merge_env(merge_env(hand, (("OURS", "0"),)), values)
    assert _set(merged) == [*_set(hand), *values]


def _set(text: str) -> list[tuple[str, str]]:
    found = [one for one in read(text.removeprefix(BOM)) if isinstance(one, Assignment)]
    return [(one.name, one.value) for one in found]


@pytest.mark.parametrize(
    ("line", "clash"),
    [
        ("TENSORZERO_BASE_URL=http://tensorzero-gateway:3000", True),
        ("export TENSORZERO_BASE_URL='http://tensorzero-gateway:3000'", True),
        ("  TENSORZERO_BASE_URL = x", True),
        ('TENSORZERO_BASE_URL="http://127.0.0.1:3000"', False),
        ("export TENSORZERO_BASE_URL=http://127.0.0.1:3000 # same", False),
        ("TENSORZERO_BASE_URL=http://127.0.0.1:3000\r", False),
        ("TENSORZERO_BASE_URL=", False),
        ("TENSORZERO_BASE_URL=''", False),
        ("#TENSORZERO_BASE_URL=x", False),
        ("MY_TENSORZERO_BASE_URL=x", False),
        ('OTHER="\nTENSORZERO_BASE_URL=x\n"', False),
    ],
)
def test_names_that_both_set(line: str, clash: bool) -> None:  # noqa: FBT001  # a case of the table
    """Another value is refused with its line; the same one, none, and what only looks like one may stay."""
    hand = f"# mine\n{line}\n"
    if not clash:
        assert hand == unmerge_env(merge_env(hand, VALUES))
        return
    with pytest.raises(RouteError) as caught:
        merge_env(hand, VALUES, name="env.shared")

    assert str(caught.value) == (
        "env.shared has values of its own for what the managed part sets: line 2 sets TENSORZERO_BASE_URL; "
        "the routes in use are unchanged; take those lines out of env.shared, or name another file."
    )


def test_quote_that_nothing_closes() -> None:
    """Behind it, ours would be part of a value."""
    with pytest.raises(RouteError, match=r"line 2 of env\.shared opens a quote that nothing closes"):
        merge_env('A=1\nB="x\n', VALUES, name="env.shared")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"A=1\n{BEGIN}\nB=1\n", "(line 2) begins a block that nothing ends"),
        (f"A=1\n{END}\n", "(line 2) ends a block that nothing begins"),
        (f"{BLOCK}{BLOCK}", "(line 6) stands behind a block"),
    ],
)
def test_damaged_block(text: str, said: str) -> None:
    """A marker too few or too many is a sentence with its line."""
    with pytest.raises(RouteError) as caught:
        merge_env(text, VALUES, name="env.shared")

    assert caught.value.what == f"a marker of pmoves-provisioner in env.shared {said}"


def test_lines_added_behind_the_block() -> None:
    """What a person adds at the end stays, above our block from then on."""
    assert merge_env(f"X=1\n\n{BLOCK}Y=2\n", VALUES) == f"X=1\nY=2\n\n{BLOCK}"


def test_a_shell_reads_it(tmp_path: Path) -> None:
    """`. file` sets ours, and the person's as before."""
    path = tmp_path / "pmoves.env"
    path.write_text(merge_env(HAND, VALUES))
    script = '. "$1"; printf "%s|" "$HF_TOKEN" "$TENSORZERO_BASE_URL" "$A"'

    out = subprocess.run(("sh", "-c", script, "sh", str(path)), capture_output=True, text=True, check=True)

    assert out.stdout == "abc|http://127.0.0.1:3000|b c|"
