"""A run that fails after its rollout ended well: the gateway goes back with the servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import RouteError
from tasks.route.generations import Store, active_config
from tasks.route.revert import revert
from tasks.route.rollout import roll_out
from tests.lab.routing import World, order, settled

OLD = order("a", functions=("chat",))
NEW = order("a", "b", functions=("chat", "archon"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a host without a gateway."""
    return World(tmp_path)


def test_the_config_of_before_is_back(world: World) -> None:
    """It is started again and gets the requests before the new one ends; the addresses are back too."""
    first = roll_out(OLD, world.context())
    addresses = world.context().env_file.read_text()  # type: ignore[union-attr]  # the lab has one
    ctx = world.context()
    roll_out(NEW, ctx)

    said = revert(ctx.undo[-1], world.context())

    assert settled(world, first.config)
    assert said == f"the config in use (sha256 {first.config_hash[:8]}) serves as before"
    assert world.context().env_file.read_text() == addresses  # type: ignore[union-attr]  # the same
    assert [first.generation] == [one.name for one in Store(ctx.folder).proven()]


def test_a_first_rollout(world: World) -> None:
    """Nothing is left of it."""
    ctx = world.context()
    roll_out(NEW, ctx)

    assert revert(ctx.undo[-1], world.context()) == "no gateway serves, as before"
    assert (active_config(ctx.folder), ctx.gateways.instances(), ctx.proxy.runs()) == (None, (), False)


def test_a_rollout_that_changed_nothing_leaves_nothing_to_undo(world: World) -> None:
    """The gateway was kept."""
    roll_out(OLD, world.context())
    ctx = world.context()
    roll_out(OLD, ctx)

    assert ctx.undo == []


def test_a_rollout_that_failed_undid_itself(world: World) -> None:
    """A run that fails for it has nothing more to undo."""
    ctx = world.context(check=_reject)
    with pytest.raises(RouteError):
        roll_out(OLD, ctx)

    assert ctx.undo == []


def _reject(path: Path) -> None:
    raise RouteError(f"TensorZero rejects {path.name}", "the config in use is unchanged", "correct it")
