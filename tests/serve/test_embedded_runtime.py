"""What the runtime asks of the supervisor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import Change, PulledModel
from tasks.serve.embedded.options import Limits, parse
from tasks.serve.runtimes import embedded
from tests.conftest import planned


def pulled(**changes: object) -> PulledModel:
    """Return the embedded model as it lies on the disk."""
    model = replace(planned(7990), **{"dimensions": 384, "max_tokens": 256, **changes})
    change = Change("weights all-minilm-l6-v2", "keep", "all files match")
    return PulledModel(model, "/store/hub", "/store/hub/x", "", 0, 0.0, change)


def test_the_command_is_what_the_server_understands() -> None:
    """The server reads from the spec's command what the plan says."""
    spec = embedded.process(pulled(), "/venv/bin/python")
    options = parse(spec.command[3:])

    assert ("/venv/bin/python", "-m", "tasks.serve.embedded") == spec.command[:3]
    assert "model-all-minilm-l6-v2" == spec.name
    assert (7990, Path("/store/hub"), "all-minilm-l6-v2", 384) == (
        options.port,
        options.cache,
        options.model,
        options.dimensions,
    )
    assert pulled().planned.weights.repo == options.repo
    assert pulled().planned.weights.revision == options.revision
    assert 256 == options.limits.max_tokens


def test_equal_plans_give_equal_specs() -> None:
    """What a run happened to do does not show in the spec, so a healthy server stays."""
    again = replace(pulled(), source="wheel", fetched_bytes=7, seconds=3.0)

    assert embedded.process(pulled(), "python") == embedded.process(again, "python")


def test_the_process_stays_offline() -> None:
    """The environment names the cache and forbids the hub."""
    environment = dict(embedded.process(pulled(), "python").environment)

    assert ("1", "/store/hub") == (environment["HF_HUB_OFFLINE"], environment["HF_HUB_CACHE"])


def test_the_supervisor_waits_longer_than_the_server_drains() -> None:
    """SIGKILL comes after the server's own limit for requests in flight."""
    from tasks.serve.embedded.options import DRAIN_S  # noqa: PLC0415  # used here alone

    assert embedded.process(pulled(), "python").stop_timeout_s > DRAIN_S


def test_what_the_plan_leaves_open_is_not_passed() -> None:
    """Without numbers in the plan the server's own limits hold."""
    options = parse(embedded.process(pulled(dimensions=None, max_tokens=None), "python").command[3:])

    assert (None, Limits().max_tokens) == (options.dimensions, options.limits.max_tokens)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--port", "0"), ("--port", "70000"), ("--port", "x"), ("--revision", "main"), ("--max-texts", "0")],
)
def test_wrong_flags_are_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that cannot be used ends the process with 2 and names it."""
    command = [*embedded.process(pulled(), "python").command[3:], flag, value]
    with pytest.raises(SystemExit) as ended:
        parse(command)

    assert 2 == ended.value.code
    assert f"argument {flag}: {value} is not" in capsys.readouterr().err
