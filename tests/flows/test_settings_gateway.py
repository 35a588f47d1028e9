"""Settings of the gateway: what the environment says, what is refused, and that no key is ever shown."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flows import settings
from flows.settings_gateway import GatewaySettings, refuse_unknown, refuse_unusable
from flows.settings_keys import digest_of, read_keys, trouble
from tasks.errors import SettingsError
from tasks.route.merge.keys import sane

TOKEN = "correct-horse-battery-staple"
SECRET = "sk-secret-0123456789"


def load(**variables: str) -> GatewaySettings:
    """Return the settings of the gateway of some environment."""
    return settings.load({"HOME": "/home/ada", **variables}).gateway


def test_the_gateway_stays_at_home_by_default() -> None:
    """On loopback, without a token, with what the services allow and no file of anybody's."""
    assert load() == GatewaySettings(Path("/home/ada/.local/state/pmoves/pmoves.env"))
    assert load().bind == "127.0.0.1"
    assert load().may_leave is None
    assert load().watch_s == 10


def test_what_is_set_is_taken() -> None:
    """Paths become whole ones, words lose the blanks around them."""
    seen = load(
        PMOVES_TENSORZERO_TOML="/etc/pmoves/tensorzero.toml",
        PMOVES_ENV_FILE="/etc/pmoves/.env",
        PMOVES_GATEWAY_BIND="0.0.0.0",
        PMOVES_GATEWAY_TOKEN=f" {TOKEN}\n",
        PMOVES_GATEWAY_CERTIFICATE="/etc/pmoves/tls.pem",
        PMOVES_GATEWAY=" wheel ",
        PMOVES_PROXY="front",
        PMOVES_WATCH="2.5",
    )

    assert seen == GatewaySettings(
        env_file=Path("/etc/pmoves/.env"),
        toml=Path("/etc/pmoves/tensorzero.toml"),
        bind="0.0.0.0",
        token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest(),
        certificate=Path("/etc/pmoves/tls.pem"),
        mode="wheel",
        proxy="front",
        watch_s=2.5,
    )


@pytest.mark.parametrize(
    ("said", "functions"),
    [
        ("", None),
        (" services ", None),
        ("off", frozenset()),
        ("chat", frozenset({"chat"})),
        ("chat, agent_zero archon,", frozenset({"chat", "agent_zero", "archon"})),
    ],
)
def test_what_may_go_to_a_cloud(said: str, functions: frozenset[str] | None) -> None:
    """As the services say, nothing, or the functions that are named."""
    assert load(PMOVES_CLOUD=said).may_leave == functions


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PMOVES_CLOUD", "off chat", "PMOVES_CLOUD has 'off' beside other words; nothing was changed; set"),
        ("PMOVES_CLOUD", "chat,services", "PMOVES_CLOUD has 'services' beside other words; nothing"),
        ("PMOVES_CLOUD", "chat a/b", "PMOVES_CLOUD has 'a/b', which is no name of a function; nothing"),
        (
            "PMOVES_GATEWAY",
            "weel",
            "PMOVES_GATEWAY is 'weel' (did you mean \"wheel\"?); nothing was changed;",
        ),
        ("PMOVES_PROXY", "nginx", "PMOVES_PROXY is 'nginx'; nothing was changed; set it to auto or haproxy"),
        ("PMOVES_WATCH", "10s", "PMOVES_WATCH is '10s', which is no number of seconds from 0 to 3600;"),
        ("PMOVES_WATCH", "nan", "PMOVES_WATCH is 'nan', which is no number of seconds from 0 to 3600;"),
        ("PMOVES_WATCH", "-1", "PMOVES_WATCH is '-1', which is no number of seconds from 0 to 3600;"),
        ("PMOVES_WATCH", "3601", "PMOVES_WATCH is '3601', which is no number of seconds from 0 to 3600;"),
        ("PMOVES_GATEWAY_BIND", "gpu-box", "PMOVES_GATEWAY_BIND is 'gpu-box', which is not an address;"),
        ("PMOVES_GATEWAY_BIND", "10.0.0.1:80", "PMOVES_GATEWAY_BIND is '10.0.0.1:80', which is not an"),
        ("PMOVES_GATEWAY_TOKEN", "short", "the token of the gateway has 5 signs, and fewer than 16 can be"),
        ("PMOVES_GATEWAY_TOKEN", "two words and more of it", "the token of the gateway has a blank, a line"),
        ("PMOVES_GATEWAY_TOKEN", "schön" * 5, "the token of the gateway has a blank, a line break or"),
        (
            "PMOVES_GATEWAY_TOKEN_FILE",
            "/nowhere/token",
            "PMOVES_GATEWAY_TOKEN_FILE is '/nowhere/token', which cannot be read (No such file or directory)",
        ),
        (
            "PMOVES_KEYS_FILE",
            "/nowhere/keys",
            "PMOVES_KEYS_FILE is '/nowhere/keys', which cannot be read (No such file or directory); nothing",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(name: str, value: str, says: str) -> None:
    """In one sentence that says what to set instead; a token is never repeated."""
    with pytest.raises(SettingsError) as refused:
        load(**{name: value})

    assert str(refused.value).startswith(says)
    assert len(str(refused.value).split("; ")) == 3
    assert name != "PMOVES_GATEWAY_TOKEN" or value not in str(refused.value)


# --- the token -----------------------------------------------------------------------------------


def test_the_token_may_lie_in_a_file(tmp_path: Path) -> None:
    """The variable comes first; an empty file is refused, for it was meant to hold one."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")

    assert load(PMOVES_GATEWAY_TOKEN_FILE=str(file)).token_sha256 == digest_of(TOKEN)
    other = load(PMOVES_GATEWAY_TOKEN_FILE=str(file), PMOVES_GATEWAY_TOKEN="x" * 16)
    assert other.token_sha256 == digest_of("x" * 16)
    file.write_text("\n")
    with pytest.raises(SettingsError, match="which is empty; nothing was changed; write the token"):
        load(PMOVES_GATEWAY_TOKEN_FILE=str(file))


def test_nothing_shows_a_token_or_a_key() -> None:
    """Not even its digest: it stays out of logs, errors and records alike."""
    seen = settings.load(
        {"HOME": "/home/ada", "PMOVES_GATEWAY_TOKEN": TOKEN, "VENICE_API_KEY": SECRET, "PMOVES_WATCH": "3"}
    )

    shown = repr(seen)
    assert TOKEN not in shown
    assert digest_of(TOKEN) not in shown
    assert SECRET not in shown
    assert seen.passed_on == (("PMOVES_WATCH", "3"),)


def test_a_worker_gets_every_setting_that_is_no_secret() -> None:
    """Files of secrets are named to it; tokens and keys are not, for Prefect would store them."""
    plain = {
        "PMOVES_TENSORZERO_TOML": "/t",
        "PMOVES_ENV_FILE": "/e",
        "PMOVES_CLOUD": "off",
        "PMOVES_GATEWAY": "wheel",
        "PMOVES_PROXY": "front",
        "PMOVES_GATEWAY_BIND": "127.0.0.1",
        "PMOVES_GATEWAY_CERTIFICATE": "/c",
        "PMOVES_WATCH": "1",
    }
    secret = {"PMOVES_GATEWAY_TOKEN": TOKEN, "GROQ_API_KEY": SECRET, "OPENAI_API_KEY": SECRET}

    seen = settings.load({"HOME": "/home/ada", **plain, **secret})

    assert dict(seen.passed_on) == plain


# --- keys ----------------------------------------------------------------------------------------


def test_keys_that_cannot_work_are_left_out_and_said() -> None:
    """The gateway loads them and then fails at each request; the sentences do not show the keys."""
    seen = settings.load(
        {
            "HOME": "/",
            "VENICE_API_KEY": "",
            "GROQ_API_KEY": f"{SECRET}\n",
            "TOGETHER_API_KEY": f"{SECRET} x",
            "ANTHROPIC_API_KEY": SECRET,
            "OPENAI_API_KEY": " ",
            "GEMINI_API_KEY": "${GEMINI_API_KEY}",
        }
    )

    assert seen.gateway.keys == (("ANTHROPIC_API_KEY", SECRET),)
    assert seen.cloud == ("anthropic",)
    assert seen.gateway.bad_keys == (
        "VENICE_API_KEY is empty and is left out",
        "GROQ_API_KEY has a line break in it and is left out",
        "TOGETHER_API_KEY has a sign that no header takes and is left out",
        "OPENAI_API_KEY is empty and is left out",
        "GEMINI_API_KEY is the name of a variable that nobody put in and is left out",
    )


def test_keys_may_lie_in_a_file(tmp_path: Path) -> None:
    """A line each, as services are given them; what the environment has comes first, an empty value not."""
    file = tmp_path / "keys.env"
    file.write_text(
        f"# ours\n\nVENICE_API_KEY={SECRET}\nexport GROQ_API_KEY = '{SECRET}-groq'\n"
        'OPENAI_API_KEY="old-one"\n'
    )
    file.chmod(0o600)

    seen = load(PMOVES_KEYS_FILE=str(file), OPENAI_API_KEY="new-one", VENICE_API_KEY="")

    assert dict(seen.keys) == {
        "VENICE_API_KEY": SECRET,
        "GROQ_API_KEY": f"{SECRET}-groq",
        "OPENAI_API_KEY": "new-one",
    }
    assert seen.bad_keys == ()


def test_a_file_of_keys_that_others_can_read_is_said(tmp_path: Path) -> None:
    """With the command that mends it."""
    file = tmp_path / "keys.env"
    file.write_text("")
    file.chmod(0o644)

    said = load(PMOVES_KEYS_FILE=str(file)).bad_keys

    assert said == (f"{file} holds keys and other users can read it: `chmod 600 {file}`",)


def test_a_line_that_is_none_is_named_and_not_shown(tmp_path: Path) -> None:
    """It may be a key."""
    file = tmp_path / "keys.env"
    file.write_text(f"A=b\n{SECRET}\n")

    with pytest.raises(SettingsError, match="its line 2 is not written NAME=value") as refused:
        read_keys(file)

    assert SECRET not in str(refused.value)


def test_values_that_a_config_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, the file or what the settings hold; nothing else of either comes along."""
    file = tmp_path / "keys.env"
    file.write_text("MINE=filed\nOTHER=x\n")
    seen = settings.load({"HOME": "/", "PMOVES_KEYS_FILE": str(file), "VENICE_API_KEY": SECRET})
    monkeypatch.setenv("THEIRS", "set")

    found = settings.environment_values(["MINE", "THEIRS", "VENICE_API_KEY", "NOWHERE"], seen)

    assert found == {"MINE": "filed", "THEIRS": "set", "VENICE_API_KEY": SECRET}
    assert settings.environment_values([], seen) == {}


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a\nb",
        "a\r",
        "a b",
        "sch\u00f6n",
        "\t",
        '"x"',
        "'x'",
        "${X}",
        "x" * 4097,
        SECRET,
        "x" * 4096,
        "'",
    ],
)
def test_a_key_is_usable_here_as_the_gateway_stage_sees_it(value: str) -> None:
    """What is said to be there must not be refused when its turn comes, nor the other way round."""
    assert bool(trouble(value)) == (not sane(value))


# --- what a run refuses --------------------------------------------------------------------------


def test_a_function_that_no_service_has_is_refused() -> None:
    """With the nearest name; what is known passes, and so do the words that name none."""
    functions = ("chat", "agent_zero")

    with pytest.raises(SettingsError) as refused:
        refuse_unknown(load(PMOVES_CLOUD="chat agent-zero"), functions)

    assert str(refused.value) == (
        "PMOVES_CLOUD has 'agent-zero', and no service has such a function (did you mean \"agent_zero\"?);"
        " nothing was changed; take some of agent_zero and chat, or set services or off."
    )
    for said in ("chat agent_zero", "off", "services", ""):
        refuse_unknown(load(PMOVES_CLOUD=said), functions)


def test_a_wide_address_needs_a_token(tmp_path: Path) -> None:
    """Whoever reaches the gateway can use every model behind it, and every key."""
    home = str(tmp_path)
    wide = load(HOME=home, PMOVES_GATEWAY_BIND="0.0.0.0")

    with pytest.raises(
        SettingsError, match=r"'0\.0\.0\.0', which other machines reach, and there is no token"
    ):
        refuse_unusable(wide)

    refuse_unusable(replace(wide, token_sha256=digest_of(TOKEN)))
    refuse_unusable(load(HOME=home, PMOVES_GATEWAY_BIND="localhost"))
    refuse_unusable(load(HOME=home, PMOVES_GATEWAY_BIND="::1"))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    """Before byte one, and not by commands that do not need them."""
    with pytest.raises(SettingsError, match=r"PMOVES_TENSORZERO_TOML is '/nowhere.toml', which is no file"):
        refuse_unusable(load(PMOVES_TENSORZERO_TOML="/nowhere.toml"))
    with pytest.raises(SettingsError, match=r"PMOVES_ENV_FILE is '.*', which is no file"):
        refuse_unusable(load(PMOVES_ENV_FILE=str(tmp_path)))

    refuse_unusable(load(PMOVES_ENV_FILE=str(tmp_path / "not-there-yet")))


LONG = f"/{'x' * 300}"


@pytest.mark.parametrize(
    ("name", "then"),
    [
        ("PMOVES_ENV_FILE", "cannot be reached (File name too long)"),
        ("PMOVES_TENSORZERO_TOML", "cannot be read (File name too long)"),
        ("PMOVES_GATEWAY_CERTIFICATE", "cannot be used (File name too long)"),
        ("PMOVES_GATEWAY_TOKEN_FILE", "cannot be read (File name too long)"),
        ("PMOVES_KEYS_FILE", "cannot be read (File name too long)"),
    ],
)
def test_a_path_that_the_system_refuses(tmp_path: Path, name: str, then: str) -> None:
    """It is one sentence with the variable's name."""
    with pytest.raises(SettingsError) as refused:
        refuse_unusable(load(**{"HOME": str(tmp_path), name: LONG}))

    assert str(refused.value).startswith(f"{name} is {LONG!r}, which {then}; nothing was changed; ")


@pytest.mark.parametrize(
    "name",
    [
        "PMOVES_ENV_FILE",
        "PMOVES_TENSORZERO_TOML",
        "PMOVES_GATEWAY_CERTIFICATE",
        "PMOVES_GATEWAY_TOKEN_FILE",
        "PMOVES_KEYS_FILE",
    ],
)
def test_a_file_that_this_user_may_not_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the folder does not let anybody look whether it is there."""
    closed = tmp_path / "closed" / "file"

    def refused_by_the_system(path: Path) -> None:
        if path.is_relative_to(closed.parent):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    _for_all_calls(monkeypatch, refused_by_the_system)

    with pytest.raises(SettingsError, match=rf"{name} is '.*', which cannot be .* \(Permission denied\); "):
        refuse_unusable(load(**{"HOME": str(tmp_path), name: str(closed)}))


def _for_all_calls(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[Path], None]) -> None:
    """Let the system refuse paths; root, as whom tests may run, is refused nothing by modes."""

    def behind(call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: Any, *others: Any, **named: Any) -> Any:  # noqa: ANN401  # as the call has them
            if isinstance(path, str | Path):  # and no descriptor
                refuse(Path(path))
            return call(path, *others, **named)

        return asked

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, behind(getattr(os, name)))
    monkeypatch.setattr(io, "open", behind(io.open))
    load_chain = ssl.SSLContext.load_cert_chain

    def chain(self: ssl.SSLContext, path: Path, **named: Any) -> None:  # noqa: ANN401  # as the call has them
        refuse(Path(path))
        load_chain(self, path, **named)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", chain)


def test_a_place_for_the_addresses_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found before the switch: the last folder that is there must take a file."""
    closed, file, loop = tmp_path / "closed", tmp_path / "file", tmp_path / "loop"
    closed.mkdir()
    file.write_text("")
    loop.symlink_to(loop)
    (tmp_path / "link").symlink_to(closed / "aim")
    access = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (Path(path) == closed and mode & os.W_OK) and access(path, mode),
    )
    nothing = f"cannot be written: nothing can be put in {closed}"

    for path, why in (
        (closed / "pmoves.env", nothing),
        (closed / "more" / "of" / "it" / "pmoves.env", nothing),
        (tmp_path / "link", nothing),
        (file / "pmoves.env", f"cannot be written: {file} is no folder"),
        (loop, "cannot be reached (it is a link to itself)"),
    ):
        with pytest.raises(SettingsError) as refused:
            refuse_unusable(load(PMOVES_ENV_FILE=str(path)))
        assert refused.value.what == f"PMOVES_ENV_FILE is {str(path)!r}, which {why}"

    for path in (file, tmp_path / "new" / "folder" / "pmoves.env"):
        refuse_unusable(load(PMOVES_ENV_FILE=str(path)))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["PMOVES_ENV_FILE", "PMOVES_KEYS_FILE", "PMOVES_TENSORZERO_TOML"])
def test_the_home_of_nobody(name: str) -> None:
    """A name after ~ that no user has is one sentence."""
    with pytest.raises(SettingsError, match=f"{name} is '~nobody-x/f', which leads nowhere"):
        load(**{name: "~nobody-x/f"})


def pem(*, password: bytes | None = None) -> tuple[bytes, bytes]:
    """Return a certificate for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, form, locked
    )


def test_a_certificate_is_tried_before_anything_is_done(tmp_path: Path) -> None:
    """One that is not there, has no key, another's key or a password is refused; nobody is asked for one."""
    (certificate, key), (_, other), (_, locked) = pem(), pem(), pem(password=b"hidden")
    file = tmp_path / "tls.pem"
    wanted = load(HOME=str(tmp_path), PMOVES_GATEWAY_CERTIFICATE=str(file))

    for content in (None, b"", certificate, certificate + other, certificate + locked, b"\x00\xff"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(SettingsError, match=r"PMOVES_GATEWAY_CERTIFICATE is .* which cannot be used"):
            refuse_unusable(wanted)

    file.write_bytes(certificate + key)
    refuse_unusable(wanted)
