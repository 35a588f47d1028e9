"""What is refused before the real TensorZero loads it, and what it says when it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import RouteError
from tasks.route.validate import _neutral_copy, clean_environment, message_of, validate

CASES = Path(__file__).parents[1] / "cases" / "route"
NO_PYTHON = "/no/python/is/started"


def cases(kind: str) -> list[Path]:
    """Return the configs of one folder of cases."""
    return sorted((CASES / kind).glob("*.toml"))


def said(case: Path) -> str:
    """Return the sentence that the first line of a case expects."""
    return case.read_text().partition("\n")[0].removeprefix("# says: ")


def alive(pid: int) -> bool:
    """Whether a process is there."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("case", cases("refused"), ids=lambda path: path.stem)
def test_refused_before_loading(case: Path) -> None:
    """Bad syntax, and what makes a cloud library look around, never reach TensorZero."""
    with pytest.raises(RouteError) as caught:
        validate(case, python=NO_PYTHON)

    assert said(case) == str(caught.value)


def test_not_text(tmp_path: Path) -> None:
    """A file of other bytes is no TOML."""
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(RouteError, match=r"c\.toml is not TOML"):
        validate(path, python=NO_PYTHON)


def test_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child gets a dummy for each key that the file names, and nothing of ours."""
    monkeypatch.setenv("TENSORZERO_POSTGRES_URL", "postgres://real")
    monkeypatch.setenv("VENICE_API_KEY", "real")
    names = ("VENICE_API_KEY", "PATH", "LD_PRELOAD", "PYTHONPATH", "TENSORZERO_POSTGRES_URL", "A=B", "A\0B")
    config: dict[str, Any] = {"models": {name: {"api_key_location": f"env::{name}"} for name in names}}
    config["embedding_models"] = {"e": {"providers": {"p": {"type": "groq"}}}}

    assert clean_environment(config) == {
        "VENICE_API_KEY": "dummy",
        "GROQ_API_KEY": "dummy",
        "PATH": os.defpath,
        "HOME": "/",
        "LANG": "C.UTF-8",
        "RUST_LOG": "",
        "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1",
    }


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (r'Other(Error(Config { message: "a \"b\": \u{e9}\n  c." })), glob: "x"', 'a "b": é c'),
        ("Internal TensorZero Error: models.m: no such field", "models.m: no such field"),
        ("something else", "something else"),
        ("", ""),
    ],
)
def test_message_of(error: str, expected: str) -> None:
    """The sentence is taken out of what Rust prints for programmers."""
    assert expected == message_of(error)


@pytest.mark.real
@pytest.mark.parametrize("case", cases("rendered"), ids=lambda path: path.stem)
def test_rendered_loads(case: Path) -> None:
    """The real TensorZero loads whatever is rendered."""
    validate(case)


@pytest.mark.real
@pytest.mark.parametrize("case", cases("rejected"), ids=lambda path: path.stem)
def test_rejected(case: Path) -> None:
    """What the real TensorZero does not load is rejected with its own words, in one sentence."""
    with pytest.raises(RouteError) as caught:
        validate(case)

    assert said(case) == str(caught.value)


HAND = """\
[gateway]
observability = { enabled = true, backend = "postgres" }
auth.enabled = true
cache = { enabled = true, backend = "valkey" }
export.otlp.traces.enabled = true
bind_address = "0.0.0.0:3000"
template_filesystem_access.base_path = "prompts"
[object_storage]
type = "filesystem"
path = "/nowhere"
[postgres]
enabled = true
[clickhouse]
disable_automatic_migrations = true
[rate_limiting]
backend = "postgres"
[[rate_limiting.rules]]
always = true
tokens_per_day = 1
[metrics.m]
type = "boolean"
optimize = "max"
level = "inference"
[models.m]
routing = ["p"]
[models.m.providers.p]
type = "groq"
model_name = "m"
[functions.f]
type = "chat"
[functions.f.experimentation]
type = "adaptive"
algorithm = "track_and_stop"
metric = "m"
candidate_variants = ["a", "b"]
[functions.f.variants.a]
type = "chat_completion"
model = "m"
system_template = "prompts/s.minijinja"
[functions.f.variants.b]
type = "chat_completion"
model = "m"
"""


def generation(folder: Path, text: str = HAND) -> Path:
    """Return a config with the file that it names beside it."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "s.minijinja").write_text("Be brief.")
    path = folder / "tensorzero.toml"
    path.write_text(text)
    return path


@pytest.mark.real
def test_databases_are_never_asked(tmp_path: Path) -> None:
    """A config with all that needs a database, a cache or a folder loads without any, and nothing is left."""
    path = generation(tmp_path)

    validate(path)

    assert path.read_text() == HAND
    assert {one.name for one in tmp_path.iterdir()} == {"tensorzero.toml", "prompts"}


@pytest.mark.real
@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("auth.enabled", "auth.enabld", "gateway.auth.enabld: unknown field `enabld`"),
        ("tokens_per_day", "tokens_per_dy", "rate_limiting.rules[0]: unknown variant `dy`"),
        ("prompts/s.minijinja", "prompts/t.minijinja", "prompts/t.minijinja"),
        ('model = "m"', 'model = "n"', "Model name 'n' not found in model table"),
    ],
)
def test_what_is_switched_off_is_still_checked(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    """A misspelt key in those tables, and a file that is not there, are found, in the real file's name."""
    with pytest.raises(RouteError) as caught:
        validate(generation(tmp_path, HAND.replace(right, wrong)))

    assert said in caught.value.what
    assert caught.value.then == "correct tensorzero.toml or its origin"
    assert ".tensorzero-" not in str(caught.value)


def test_folder_that_cannot_be_written() -> None:
    """A copy that cannot be made is one sentence."""
    copy = _neutral_copy(Path("/proc/self/c.toml"), {"postgres": {"enabled": True}})

    with pytest.raises(RouteError, match=r"no copy of c\.toml can be put beside it"), copy:
        pass


@pytest.mark.real
def test_byte_order_mark(tmp_path: Path) -> None:
    """TensorZero takes a file with one, and so does what looks at it before."""
    path = tmp_path / "bom.toml"
    path.write_text("\N{BYTE ORDER MARK}" + (CASES / "rendered" / "one-embedding-server.toml").read_text())

    validate(path)


@pytest.mark.real
def test_key_need_not_be_set(tmp_path: Path) -> None:
    """A config that names a key loads on a host that does not have it."""
    text = (CASES / "rendered" / "one-embedding-server.toml").read_text()
    path = tmp_path / "keyed.toml"
    path.write_text(text.replace('"none"', '"env::SOME_KEY_THAT_IS_NOT_SET"'))

    validate(path)


@pytest.mark.real
def test_folder_like_a_pattern(tmp_path: Path) -> None:
    """A folder whose name is a glob pattern is still found."""
    path = tmp_path / "a[b]*" / "c.toml"
    path.parent.mkdir()
    path.write_bytes((CASES / "rendered" / "one-embedding-server.toml").read_bytes())

    validate(path)


@pytest.mark.real
def test_too_late(tmp_path: Path) -> None:
    """A load that hangs is killed, and the sentence says after how long."""
    pid = tmp_path / "pid"
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec {sys.executable} -c 'import signal; signal.pause()'\n")
    slow.chmod(0o755)

    with pytest.raises(RouteError) as caught:
        validate(CASES / "rendered" / "one-embedding-server.toml", python=str(slow), timeout_s=3)

    assert caught.value.what == "TensorZero rejects the config: it did not load within 3 s"
    assert not alive(int(pid.read_text()))


@pytest.mark.real
def test_child_crashes(tmp_path: Path) -> None:
    """A child that dies without a word is still one sentence."""
    crash = tmp_path / "python"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)

    with pytest.raises(RouteError, match="its process ended with code -11"):
        validate(CASES / "rendered" / "one-embedding-server.toml", python=str(crash))
