"""A rollout that ended well, in a run that failed after it → the config and the gateway of before.

The model servers of before are to be back when this is called: the config of before leads to them.
"""

from __future__ import annotations

from tasks.route.context import RouteContext
from tasks.route.generations import Store
from tasks.route.undo import Undo, go_back


def revert(undo: Undo, ctx: RouteContext) -> str:
    """Give the requests back to the config of before; return, in one clause, what serves now.

    Args:
        undo: What the rollout left in its context.
        ctx: What routing needs from outside, of a run that nobody stops any more.
    """
    blue = undo.before.blue
    if blue is not None:
        Store(ctx.folder).give_keys(blue.generation, undo.keys)
    return go_back(undo.green, None, undo.before, ctx).intact
