"""Desired against actual: what has to be done to a process, and why. Pure."""

from __future__ import annotations

from tasks.contracts import Change, ProcessState


def decide(name: str, wanted: str, actual: ProcessState | None, *, weights_replaced: bool) -> Change:
    """Compare the wanted spec's hash with the process that is there.

    A process that loaded weights which were then replaced on the disk has to load them again.
    """
    resource = f"process {name}"
    if actual is None:
        return Change(resource, "create", "there is no process of that name")
    if not actual.running:
        return Change(resource, "replace", f"the process of that name is {actual.state}")
    if actual.spec_hash != wanted:
        return Change(resource, "replace", f"its spec changed ({actual.spec_hash[:8]} to {wanted[:8]})")
    if weights_replaced:
        return Change(resource, "replace", "the weights it loaded were damaged and have been replaced")
    return Change(resource, "keep", f"pid {actual.pid} runs with the wanted spec {wanted[:8]}")
