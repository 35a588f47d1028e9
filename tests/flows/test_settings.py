"""Settings: what the environment says, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows import settings
from tasks.errors import SettingsError
from tasks.plan.request import External


def test_defaults_follow_the_platform() -> None:
    """Without any variable, state and weights lie where other tools would look for them."""
    seen = settings.load({"HOME": "/home/ada"})

    assert Path("/home/ada/.local/state/pmoves") == seen.state
    assert Path("/home/ada/.cache/huggingface/hub") == seen.store
    assert (3030, 7990, 4200) == (seen.gateway_port, seen.model_port, seen.prefect_port)
    assert "http://127.0.0.1:4200" == seen.prefect_ui_url
    assert seen.prefect_is_local


@pytest.mark.parametrize(
    ("environment", "store"),
    [
        ({"HF_HUB_CACHE": "/data/hub", "HF_HOME": "/other"}, "/data/hub"),
        ({"HF_HOME": "/data/hf"}, "/data/hf/hub"),
        ({"XDG_CACHE_HOME": "/data/cache"}, "/data/cache/huggingface/hub"),
    ],
)
def test_the_store_is_where_the_hub_client_has_it(environment: dict[str, str], store: str) -> None:
    """The three variables of the Hub's own client hold, in its own order."""
    assert Path(store) == settings.load({"HOME": "/home/ada", **environment}).store


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("PMOVES_GATEWAY_PORT", "70000", "not a port"),
        ("PMOVES_MODEL_PORT", "x", "not a port"),
        ("PMOVES_MODEL_PORT", "0", "not a port"),
        ("PMOVES_HOST", "Bad_Host", "not a host name"),
        ("PREFECT_API_URL", "localhost:4200", "not a web address"),
        ("PREFECT_API_URL", "http://[::1", "not a web address"),
        ("HF_ENDPOINT", "ftp://x", "not a web address"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, part: str) -> None:
    """The sentence has the variable, the value and what to set instead."""
    with pytest.raises(SettingsError) as refused:
        settings.load({"HOME": "/home/ada", name: value})

    assert str(refused.value).startswith(f"{name} is {value!r}, which is {part}; nothing was changed; ")


def test_a_host_name_is_made_fit_for_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's keys take lower-case letters, digits and dashes alone."""
    monkeypatch.setattr("socket.gethostname", lambda: "Ada_Box.example.org")

    assert "ada-box" == settings.load({"HOME": "/"}).host


def test_libraries_get_no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Prefect and the Hub client read at import is set, and says no to telemetry."""
    for name in ("PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "unset")

    settings.apply_to_libraries(settings.load())

    assert "false" == os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"]
    assert "1" == os.environ["DO_NOT_TRACK"] == os.environ["HF_HUB_DISABLE_TELEMETRY"]


def test_two_ports_that_are_one_are_refused() -> None:
    """Before anything is served on either."""
    with pytest.raises(SettingsError, match="PMOVES_MODEL_PORT and PMOVES_GATEWAY_PORT are both 3030"):
        settings.load({"HOME": "/", "PMOVES_MODEL_PORT": "3030"})


def test_a_prefect_address_without_its_api_is_refused() -> None:
    """A slash at its end is forgiven."""
    assert (
        "http://p:1/api" == settings.load({"HOME": "/", "PREFECT_API_URL": "http://p:1/api/"}).prefect_api_url
    )
    with pytest.raises(SettingsError, match="does not end in /api; nothing was changed; set http://p:1/api"):
        settings.load({"HOME": "/", "PREFECT_API_URL": "http://p:1"})


def test_a_worker_gets_what_downloads_need_and_no_token() -> None:
    """Proxies, pip's settings and certificates, in either case."""
    environment = {
        "HOME": "/",
        "PIP_INDEX_URL": "x",
        "https_proxy": "y",
        "SSL_CERT_FILE": "z",
        "HF_TOKEN": "t",
        "A": "b",
    }

    seen = settings.load(environment)

    assert {"PIP_INDEX_URL", "https_proxy", "SSL_CERT_FILE"} == {name for name, _ in seen.passed_on}
    assert "t" not in repr(seen).split("hub_token")


@pytest.mark.parametrize("name", ["x ;y", "x #y", "x\ny"])
def test_a_state_folder_that_supervisord_cannot_read_is_refused(name: str) -> None:
    """Rather than half a path in its config."""
    with pytest.raises(SettingsError, match=r"the state folder .* nothing was changed; set PMOVES_STATE"):
        settings.load({"HOME": "/", "PMOVES_STATE": f"/data/{name}/state"})


@pytest.mark.parametrize(
    ("said", "mode"), [("", "auto"), ("auto", "auto"), (" own ", "own"), ("external", "external")]
)
def test_which_ollama_is_wanted(said: str, mode: str) -> None:
    """Where nothing is said, what there is decides."""
    assert settings.load({"HOME": "/home/ada", "PMOVES_OLLAMA": said}).ollama_mode == mode
    assert settings.load({"HOME": "/home/ada"}).ollama_mode == "auto"


def test_a_misspelt_ollama_is_refused_with_the_nearest_word() -> None:
    """Every refusal says what is to be set."""
    with pytest.raises(SettingsError) as caught:
        settings.load({"HOME": "/home/ada", "PMOVES_OLLAMA": "externl"})

    assert str(caught.value) == (
        "PMOVES_OLLAMA is 'externl' (did you mean \"external\"?); nothing was changed; set it to auto or own"
        " or external, or leave it out."
    )


def test_servers_that_already_run() -> None:
    """Several with blanks between them; without a model, the server has it under the role's name."""
    text = "llm=http://127.0.0.1:8000/v1#org/model:7b  reranker=http://localhost:8001/v1/"
    found = settings.load({"HOME": "/home/ada", "PMOVES_EXTERNAL": text}).external

    assert found == (
        External("llm", "http://127.0.0.1:8000/v1", "org/model:7b"),
        External("reranker", "http://localhost:8001/v1"),
    )
    assert [one.name for one in found] == ["org/model:7b", "reranker"]
    assert settings.load({"HOME": "/home/ada"}).external == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("llm", "'llm' is not written role=address"),
        ("llm=", "'llm=' is not written role=address"),
        ("lm=http://127.0.0.1/v1", "there is no role 'lm' (did you mean \"llm\"?)"),
        ("llm=http://127.0.0.1/v1#", "the model of llm is ''"),
        ("llm=http://127.0.0.1/v1#a|b", "the model of llm is 'a|b'"),
        ("llm=127.0.0.1:8000/v1", "the address of llm is '127.0.0.1:8000/v1', which is none of http"),
        ("llm=https://127.0.0.1/v1", "the address of llm is 'https://127.0.0.1/v1', which is none of http"),
        ("llm=http://127.0.0.1:x/v1", "the address of llm is 'http://127.0.0.1:x/v1', which is none of http"),
        ("llm=http://a:b@127.0.0.1/v1", "the address of llm carries a password"),
        ("llm=http://gpu-box:8000/v1", "the server of llm is on gpu-box, and only one on this host is used"),
        ("llm=http://10.0.0.5/v1", "the server of llm is on 10.0.0.5, and only one on this host is used"),
        (
            "llm=http://127.0.0.1:8000",
            "the address of llm is 'http://127.0.0.1:8000', which does not end in /v1",
        ),
        (
            "llm=http://127.0.0.1/v1?a=1",
            "the address of llm is 'http://127.0.0.1/v1?a=1', which does not end",
        ),
        ("llm=http://[::1]/v1 llm=http://127.0.0.1/v1", "it names two servers for llm"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused(text: str, says: str) -> None:
    """With what is wrong, before anything is done; a password is never repeated."""
    with pytest.raises(SettingsError) as caught:
        settings.load({"HOME": "/home/ada", "PMOVES_EXTERNAL": text})

    assert str(caught.value).startswith(f"PMOVES_EXTERNAL cannot be used: {says}")
    assert "a:b@" not in str(caught.value)
