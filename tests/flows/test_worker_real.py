"""Runs from Prefect: deployments, a worker on this host, and the form that the UI shows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tasks import catalogue
from tests.conftest import ROOT
from tests.lab.host import LabHost, until

pytestmark = pytest.mark.real

DEPLOYMENTS = {"auto", *catalogue.profile_names()}


@pytest.fixture(scope="module")
def worked(host: LabHost) -> Iterator[LabHost]:
    """Return the host with its deployments registered and a worker on it."""
    done = host.pmoves("worker")
    assert done.returncode == 0, done.stderr
    yield host
    host.supervisor.stop("prefect-worker")


def deployment(host: LabHost, name: str) -> dict[str, Any]:
    """Return one deployment as the server has it."""
    found: dict[str, Any] = (
        httpx.get(f"{host.api}/deployments/name/provision/{name}").raise_for_status().json()
    )
    return found


def run_of(host: LabHost, name: str, *options: str) -> dict[str, Any]:
    """Start a deployment with Prefect's own command, and return its run once it ended."""
    command = (sys.executable, "-m", "prefect", "deployment", "run", f"provision/{name}", *options)
    started = subprocess.run(
        command, env=host.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert started.returncode == 0, started.stdout + started.stderr
    body = {"deployments": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    run: dict[str, Any] = {}

    def ended() -> bool:
        run.update(host.post("/flow_runs/filter", body)[0])
        return run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

    until(ended, f"the run of {name} did not end: {run}", patience_s=120)
    return run


def test_every_profile_has_its_deployment(worked: LabHost) -> None:
    """One flow, a deployment a profile."""
    found = worked.post("/deployments/filter", {})

    assert DEPLOYMENTS | {"host"} == {one["name"] for one in found}
    assert all(deployment(worked, name)["parameters"] == {"profile": name} for name in DEPLOYMENTS)


def test_a_deployment_provisions_this_host(worked: LabHost) -> None:
    """`prefect deployment run provision/embedded` runs here, finds the host healthy and says so."""
    before = worked.running()

    run = run_of(worked, "embedded")

    newest = worked.json("history")[0]
    assert "COMPLETED" == run["state_type"]
    assert ("nothing to do", run["id"]) == (newest["outcome"], newest["flow_run"])
    assert before == worked.running()


def test_a_profile_whose_hardware_is_not_here_is_refused(worked: LabHost) -> None:
    """The run fails with the sentence that names both numbers."""
    run = run_of(worked, "rtx-4090")

    assert "FAILED" == run["state_type"]
    assert "needs 1 nvidia card with 23.5 GiB each and this host has 0" in run["state"]["message"]
    logs = worked.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
    assert [] == [line["message"] for line in logs if "Traceback" in line["message"]]


def test_a_run_for_another_host_is_refused(worked: LabHost) -> None:
    """A wrong queue cannot provision the wrong machine."""
    run = run_of(worked, "embedded", "-p", 'host="another-host"')

    assert "FAILED" == run["state_type"]
    assert "this run is for host another-host and was started on lab-host" in run["state"]["message"]


def test_the_form_has_drop_downs_and_help(worked: LabHost) -> None:
    """The schema that the UI makes its form of has choices, bounds and descriptions, in order."""
    fields = deployment(worked, "embedded")["parameter_openapi_schema"]["properties"]

    names = [
        "profile",
        "host",
        "dry_run",
        "strict",
        "accept_risk",
        "overrides",
        "vram",
        "ram",
        "limit_rate",
        "weights_from",
        "verify",
        "wait_minutes",
    ]
    assert names == sorted(fields, key=lambda name: fields[name]["position"])
    assert {"auto", "embedded", "jetson"} <= set(fields["profile"]["enum"])
    assert all(field["description"] for field in fields.values())


@pytest.mark.parametrize(
    "parameters",
    [
        {"profile": "jetsn"},
        {"host": "No Such"},
        {"wait_minutes": -1},
        {"overrides": ["llm context 16384"]},
        {"vram": "a lot"},
        {"limit_rate": "fast"},
    ],
)
def test_a_bad_value_is_refused_before_a_run_exists(worked: LabHost, parameters: dict[str, Any]) -> None:
    """The server refuses what the form should not have let through."""
    wanted = deployment(worked, "embedded")["id"]

    answer = httpx.post(
        f"{worked.api}/deployments/{wanted}/create_flow_run", json={"parameters": parameters}, timeout=30
    )

    assert 409 == answer.status_code


def test_registering_again_changes_nothing(worked: LabHost) -> None:
    """`pmoves worker` twice: the same deployments, the same worker."""
    before = (worked.running(), {name: deployment(worked, name)["id"] for name in DEPLOYMENTS})

    assert worked.pmoves("worker").returncode == 0

    assert before == (worked.running(), {name: deployment(worked, name)["id"] for name in DEPLOYMENTS})


def test_the_pool_runs_no_other_command(worked: LabHost) -> None:
    """The template is locked: a run cannot bring its own command or environment."""
    marker = worked.folder / f"touched-{time.time_ns()}"
    wanted = deployment(worked, "embedded")["id"]
    body = {
        "job_variables": {"command": f"touch {marker}", "env": {"A": "b"}},
        "parameters": {"dry_run": True},
    }
    httpx.post(f"{worked.api}/deployments/{wanted}/create_flow_run", json=body, timeout=30)

    run = run_of(worked, "embedded", "-p", "dry_run=true")

    assert "COMPLETED" == run["state_type"]
    assert not marker.exists()
