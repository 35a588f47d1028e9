"""Desired against actual: what has to be done to a process or a container, and why. Pure."""

from __future__ import annotations

from tasks.contracts import Change, ContainerState, ProcessState


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


def decide_container(
    name: str, wanted: str, image: str, actual: ContainerState | None, *, weights_replaced: bool
) -> Change:
    """Compare the wanted spec's hash and image with the container that is there.

    Args:
        name: the container's name.
        wanted: the hash of the wanted spec.
        image: the pinned image of that spec.
        actual: the container of that name, as the engine lists it.
        weights_replaced: the weights that it loaded were damaged, and are others now.
    """
    resource = f"container {name}"
    if actual is None:
        return Change(resource, "create", "there is no container of that name")
    if not actual.running:
        return Change(resource, "replace", f"the container of that name is {actual.state}")
    if actual.image != image:
        return Change(resource, "replace", f"its image changes from {short(actual.image)} to {short(image)}")
    if actual.spec_hash != wanted:
        return Change(resource, "replace", f"its spec changed ({actual.spec_hash[:8]} to {wanted[:8]})")
    if weights_replaced:
        return Change(resource, "replace", "the weights it loaded were damaged and have been replaced")
    return Change(resource, "keep", f"it runs with the wanted spec {wanted[:8]} and image {short(image)}")


def short(image: str) -> str:
    """Shorten a pinned image to the last part of its name and the first digits of its digest."""
    name, _, digest = image.partition("@sha256:")
    return f"{name.rpartition('/')[2]}@{digest[:12]}" if digest else name or "none"
