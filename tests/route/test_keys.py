"""The gateway's keys: what asks for them, whose they are, and that nothing but one file shows them."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import RouteError
from tasks.route.merge.env_text import written
from tasks.route.merge.keys import (
    DEFAULT_KEYS,
    fault,
    gateway_environment,
    key_places,
    read_environment,
    sane,
    write_environment,
)
from tasks.route.merge.managed import parse

SECRET = "sk-very-secret-0123456789"
CONFIG = """\
[models.cloud]
routing = ["venice"]
[models.cloud.providers.venice]
type = "openai"
api_base = "https://api.venice.ai/api/v1/"
api_key_location = "env::PMOVES_KEY_VENICE"
"""
NAMES = {"PMOVES_KEY_VENICE": "VENICE_API_KEY"}
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("sk-proj-A_b.c/d+e=", ""),
        ("", "is empty"),
        (" \t", "is empty"),
        ("sk-1234\n", "holds a line break"),
        ("sk\r-1234", "holds a line break"),
        ("sk 1234", "holds a blank"),
        ("sk-\x07", "holds a character that no header can carry"),
        ("sk-é", "holds a character that no header can carry"),
        ('"sk-1234"', "has quotes around it"),
        ("'sk-1234'", "has quotes around it"),
        ("${VENICE_API_KEY}", "is the name of a variable that nobody put in"),
        ("x" * 4097, "is longer than 4096 characters"),
    ],
)
def test_sane(value: str, said: str) -> None:
    """What TensorZero would take and then fail with is found before, and the words do not show it."""
    assert said == fault(value)
    assert sane(value) is not bool(said)


def test_names_are_the_operators() -> None:
    """The config's own name gets the value of the operator's variable, and nothing else is written."""
    keys = {"VENICE_API_KEY": SECRET, "OTHER": "x"}

    assert gateway_environment(CONFIG, NAMES, keys) == f'PMOVES_KEY_VENICE="{SECRET}"\n'


def test_hand_written_names_are_variables_themselves() -> None:
    """A name that is in no table is the operator's variable."""
    text = 'relay = { api_key_location = { default = "env::A", fallback = "env::B" } }\n[x]\ny = ["env::C"]\n'

    assert gateway_environment(text, {}, {"A": "1", "B": "2", "C": "3"}) == 'A="1"\nB="2"\nC="3"\n'


@pytest.mark.parametrize("kind", sorted(DEFAULT_KEYS))
def test_kinds_that_have_a_key_of_their_own(kind: str) -> None:
    """A provider that does not say where its key is reads the variable of its kind."""
    provider: dict[str, Any] = {"type": kind}
    config = {"models": {"m": {"providers": {"p": provider}}}}

    assert key_places(config) == {DEFAULT_KEYS[kind]: ("models", "m", "providers", "p")}
    assert key_places(config | {"provider_types": {kind: {"defaults": {"api_key_location": "none"}}}}) == {}
    provider["api_key_location"] = "none"
    assert key_places(config) == {}


def test_an_address_is_no_key() -> None:
    """An address is taken as it stands; the linter says so."""
    assert key_places({"models": {"m": {"providers": {"p": {"api_base": "env::X"}}}}}) == {}


def test_key_that_nobody_has() -> None:
    """A missing key names the place and the operator's variable."""
    with pytest.raises(RouteError) as caught:
        gateway_environment(CONFIG, NAMES, {}, name="mine.toml")

    assert str(caught.value) == (
        "models.cloud.providers.venice.api_key_location (line 6 of mine.toml) takes its key from "
        "VENICE_API_KEY, which is not set: TensorZero would not start; the routes in use are unchanged; "
        "set VENICE_API_KEY, or take that provider out."
    )


def test_key_that_cannot_be_sent_is_not_shown() -> None:
    """What is wrong with a key is said without it."""
    with pytest.raises(RouteError) as caught:
        gateway_environment(CONFIG, NAMES, {"VENICE_API_KEY": f"{SECRET}\n"})

    assert "VENICE_API_KEY, the key of models.cloud.providers.venice.api_key_location" in str(caught.value)
    assert "holds a line break" in str(caught.value)
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("key", ["PATH", "LD_PRELOAD", "TENSORZERO_POSTGRES_URL", "A B", "1A", "A=B", ""])
def test_names_that_no_key_can_have(key: str) -> None:
    """A config cannot set what the gateway, the loader or a shell takes for something else."""
    with pytest.raises(RouteError, match="which no key can be called"):
        gateway_environment(f'x = "env::{key}"\n', {}, {key: "value"})


@given(st.dictionaries(st.sampled_from(("A", "B_1", "_C")), PRINTABLE, max_size=3))
def test_written_and_read(values: dict[str, str]) -> None:
    """What is written is read back, whatever signs a key has."""
    assert values == read_environment("".join(f"{written(*one, quoted=True)}\n" for one in values.items()))


def test_a_shell_reads_the_same(tmp_path: Path) -> None:
    """`. file` sets the very values, and runs nothing."""
    values = {"A": "a\"b'c\\d$(touch x)`touch y`${HOME}!*?[x]", "B": "plain", "C": "#~&|;<>"}
    path = tmp_path / "gateway.env"
    write_environment(path, "".join(f"{written(*one, quoted=True)}\n" for one in values.items()))
    script = '. "$1"; printf "%s\\n" "$A" "$B" "$C"'

    out = subprocess.run(("sh", "-c", script, "sh", str(path)), capture_output=True, text=True, check=True)

    assert out.stdout.splitlines() == list(values.values())
    assert values == read_environment(path.read_text())
    assert [path] == list(tmp_path.iterdir())


def test_reading_what_others_write() -> None:
    """Comments, `export`, single quotes and CRLF are read."""
    text = "# keys\n\nexport A='x $y'\r\nB = b # why\r\nC=\nD=a#b\nE=\"one\ntwo\"\n"

    assert read_environment(text) == {"A": "x $y", "B": "b", "C": "", "D": "a#b", "E": "one\ntwo"}


@pytest.mark.parametrize("text", [f"A=1\n{SECRET}\n", f'A=1\nB="{SECRET}\n'])
def test_broken_file_is_not_shown(text: str) -> None:
    """The sentence has the line's number and not the line."""
    with pytest.raises(RouteError) as caught:
        read_environment(text)

    assert caught.value.what == "line 2 of the gateway's environment is not written NAME=value"
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_nobody_else_can_read_it(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has the mode 0600 before its first byte, whatever the umask, and so has its successor."""
    path = tmp_path / "gateway.env"
    path.write_text("old")
    path.chmod(0o666)
    modes: list[int] = []
    opened = os.open

    def look(name: str, flags: int, mode: int = 0o777) -> int:
        descriptor = opened(name, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", look)
    before = os.umask(umask)
    try:
        write_environment(path, f'A="{SECRET}"\n')
    finally:
        os.umask(before)

    assert modes[0] & ~0o600 == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f'A="{SECRET}"\n'


def test_cannot_be_written(tmp_path: Path) -> None:
    """A folder that is a file is one sentence, and nothing is left."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RouteError, match=r"the gateway's keys cannot be written to .* \(File exists\)"):
        write_environment(tmp_path / "file" / "gateway.env", SECRET)


def test_all_names_of_a_config_are_found() -> None:
    """Each place is named once, the first one in the file."""
    places = key_places(parse(CONFIG + '[embedding_models.e.providers.p]\nkey = "env::PMOVES_KEY_VENICE"\n'))

    assert places == {"PMOVES_KEY_VENICE": ("models", "cloud", "providers", "venice", "api_key_location")}
