"""Desired against actual: every reason to keep, create or replace a container."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.contracts import ContainerState
from tasks.serve.changes import decide_container, short

IMAGE = "ghcr.io/lab/llama@sha256:" + "1" * 64
THERE = ContainerState("pmoves-llm", "1", "running", spec_hash="w" * 64, image=IMAGE)


@pytest.mark.parametrize(
    ("actual", "replaced", "kind", "reason"),
    [
        (None, False, "create", "there is no container of that name"),
        (None, True, "create", "there is no container of that name"),
        (THERE, False, "keep", "it runs with the wanted spec wwwwwwww and image llama@111111111111"),
        (THERE, True, "replace", "the weights it loaded were damaged and have been replaced"),
        (replace(THERE, spec_hash="x" * 64), False, "replace", "its spec changed (xxxxxxxx to wwwwwwww)"),
        (replace(THERE, state="exited"), False, "replace", "the container of that name is exited"),
        (replace(THERE, state="restarting"), True, "replace", "the container of that name is restarting"),
        (
            replace(THERE, image=IMAGE.replace("1" * 64, "2" * 64), spec_hash="x" * 64),
            False,
            "replace",
            "its image changes from llama@222222222222 to llama@111111111111",
        ),
    ],
    ids=["none", "none, new weights", "as wanted", "new weights", "spec", "exited", "restarting", "image"],
)
def test_decisions(actual: ContainerState | None, kind: str, reason: str, *, replaced: bool) -> None:
    """The reason names what a person can check."""
    change = decide_container("pmoves-llm", "w" * 64, IMAGE, actual, weights_replaced=replaced)

    assert ("container pmoves-llm", kind, reason) == (change.resource, change.kind, change.reason)


@pytest.mark.parametrize(
    ("image", "shown"), [(IMAGE, "llama@111111111111"), ("a/b:1", "a/b:1"), ("", "none")]
)
def test_images_are_shown_short(image: str, shown: str) -> None:
    """What has no digest is shown as it is."""
    assert shown == short(image)
