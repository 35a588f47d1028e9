"""The container images of a plan as text: each once, with its size. Pure."""

from __future__ import annotations

from flows.report import Rows, columns
from tasks.contracts import Image, Plan
from tasks.wording import gib, listed

HEAD = ("IMAGE", "SIZE", "SERVERS")


def images_of(plan: Plan) -> tuple[tuple[Image, tuple[str, ...]], ...]:
    """Return each image that a plan needs, with the names of the servers that are made of it."""
    found: dict[str, tuple[Image, list[str]]] = {}
    for one in plan.servers:
        if one.image is not None:
            found.setdefault(one.image.reference, (one.image, []))[1].append(one.name)
    return tuple((image, tuple(names)) for image, names in found.values())


def image_rows(plan: Plan) -> Rows:
    """Return a row an image."""
    return [(image.reference, _size(image), listed(names)) for image, names in images_of(plan)]


def images_table(plan: Plan, most: int | None = None) -> list[str]:
    """Write a table of the images, or nothing where no server is a container.

    Args:
        plan: the plan.
        most: how many characters a line may have, on a sheet that holds no wider table: it is then two lines
            an image.
    """
    rows = image_rows(plan)
    if not rows:
        return []
    table = columns(HEAD, rows)
    if most is None or max(map(len, table.splitlines())) <= most:
        return [table, ""]
    return [line for reference, size, servers in rows for line in (reference, f"  {size}, for {servers}")]


def images_line(plan: Plan) -> str:
    """Write how many images there are and how large, as the end of a line about downloads."""
    images = [image for image, _ in images_of(plan)]
    if not images:
        return ""
    about = "about " if any(map(_estimated, images)) else ""
    total = gib(sum(image.size_bytes for image in images))
    return f"; container images: {len(images)}, {about}{total}, kept by the engine"


def _size(image: Image) -> str:
    return gib(image.size_bytes) + (" est." if _estimated(image) else "")


def _estimated(image: Image) -> bool:
    return image.size_basis.startswith("estimate")
