"""What a container sees of the host: where weights are mounted, and how settings become its arguments. Pure.

/weights/models--org--name   a repository's folder of the Hugging Face cache, read-only
/models                      Ollama's folder
/hub                         a small cache of our own that points into /weights (speaches)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tasks.contracts import Mount, PlannedModel, Weights
from tasks.errors import ServeError

WEIGHTS, MODELS, HUB = "/weights", "/models", "/hub"
Settings = Sequence[tuple[str, str]]


def repo_folder(repo: str) -> str:
    """Return the name of a repository's folder in a Hugging Face cache."""
    return f"models--{repo.replace('/', '--')}"


def snapshot(weights: Weights) -> PurePosixPath:
    """Return where a container finds the files of pinned weights."""
    return PurePosixPath(WEIGHTS, repo_folder(weights.repo), "snapshots", weights.revision)


def weights_mounts(models: Sequence[PlannedModel], store: Path) -> tuple[Mount, ...]:
    """Return the folders of the models' repositories, and of no other; each once."""
    repos = dict.fromkeys(pinned(one).repo for one in models)
    return tuple(
        Mount(str(store / repo_folder(repo)), f"{WEIGHTS}/{repo_folder(repo)}") for repo in sorted(repos)
    )


def pinned(planned: PlannedModel) -> Weights:
    """Return a model's pinned files.

    Raises:
        ServeError: it has none.
    """
    if planned.weights is None:
        raise ServeError(
            f"{planned.model} has no pinned files, so {planned.runtime} cannot serve it",
            "nothing was started",
            "pin it with `pmoves lock --update`",
        )
    return planned.weights


def only(models: Sequence[PlannedModel]) -> PlannedModel:
    """Return the one model of a server that can hold one.

    Raises:
        ServeError: the plan gives it several.
    """
    if len(models) != 1:
        names = ", ".join(one.model for one in models) or "none"
        raise ServeError(
            f"a server of this kind holds one model, and the plan gives it {names}",
            "nothing was started",
            "report this: it is an error of the planner",
        )
    return models[0]


def arguments(settings: Settings) -> tuple[str, ...]:
    """Return the settings that are flags as a command line has them; one without a value stands alone."""
    flags = (one for one in settings if one[0].startswith("--"))
    return tuple(part for flag, value in flags for part in ((flag, value) if value else (flag,)))


def environment(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return the settings that are variables."""
    return tuple(one for one in settings if not one[0].startswith("--"))
