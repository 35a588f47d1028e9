"""What is refused before the real TensorZero loads it, and what it says when it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tasks.errors import RouteError
from tasks.route.validate import clean_environment, message_of, validate

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
    text = '["env::VENICE_API_KEY", "env::PATH", "env::LD_PRELOAD", "env::TENSORZERO_POSTGRES_URL"]'

    assert clean_environment(text) == {
        "VENICE_API_KEY": "dummy",
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
