"""The tasks of one run: a chain for each model, gathered by server, and the gateway at their end.

    image of a server ─┐
    prepare (Ollama) ──┴→ pull → serve → verify ─┐
                          pull → serve → verify ─┴→ promote ─┐
    the gateway's image, where it is to be a container ──────┴→ route

A server starts when its own weights are whole, and is verified when it answers, while others still download.
What takes turns in one server's memory is verified in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows import verifying, weights
from flows.host_run import HostRun
from flows.planning import past
from flows.routing import Chosen
from tasks.contracts import Plan, PlannedModel, PulledModel, Route, Stage, VerifiedServer
from tasks.errors import StoppedError
from tasks.pull.ollama.pull import Server
from tasks.pull.sources.job import PullContext
from tasks.pull.task import pull
from tasks.route.context import NAME, Order, RouteContext
from tasks.route.task import route
from tasks.serve.apply import ServeContext, pulls_itself
from tasks.serve.task import image, prepare, promote, serve
from tasks.verify.task import verify

Record = TypeVar("Record")


def later(future: PrefectFuture[Record]) -> Record:
    """Let a task take another's future: Prefect puts the result in its place, types do not know."""
    return cast("Record", future)


@task(name="gateway", task_run_name="prepare-gateway", cache_policy=NO_CACHE)
def choose(make: Callable[[], Chosen], timed: Callable[[Stage, str], AbstractContextManager[None]]) -> Chosen:
    """Run `routing.chosen` as a Prefect task."""
    with timed("set-up", NAME):
        return make()


class Chains:
    """The tasks of one run. Futures are kept in the order in which they were begun."""

    def __init__(self, run: HostRun, plan: Plan, *, fetching: PullContext, serving: ServeContext) -> None:
        self.pulled: list[PrefectFuture[PulledModel]] = []
        self.promoted: list[PrefectFuture[tuple[VerifiedServer, ...]]] = []
        self.futures: list[PrefectFuture[Any]] = []
        self.rollout: list[PrefectFuture[Route]] = []
        self._run = run
        self._plan = plan
        self._fetching = fetching
        self._serving = serving
        self._http = serving.http
        self._records = past(run.settings)

    def start(self) -> None:
        """Begin every chain, the longest first: by the bytes that are to come, and then to load."""
        groups: dict[str, list[PlannedModel]] = {}
        for model in sorted(self._plan.models, key=lambda one: (-one.download_bytes, -one.memory_bytes)):
            groups.setdefault(model.server or model.model, []).append(model)
        pulled = self._start_images()
        for name, models in groups.items():
            self._start_server(name, models, pulled.get(name))

    def _start_images(self) -> dict[str, PrefectFuture[str]]:
        """Begin to pull each image once; return what to wait for, by server."""
        containers = self._serving.containers
        if containers is None:
            return {}
        users: dict[str, list[str]] = {}
        for name, server in containers.servers.items():
            if server.image is not None:
                users.setdefault(server.image.reference, []).append(name)
        found: dict[str, PrefectFuture[str]] = {}
        for reference, names in users.items():
            future = self._kept(image.submit(reference, tuple(names), self._serving, self._run.timed))
            found |= dict.fromkeys(names, future)
        return found

    def _start_server(
        self, name: str, models: list[PlannedModel], pulled_image: PrefectFuture[str] | None
    ) -> None:
        through: PrefectFuture[str] | None = None
        if pulls_itself(models[0]) and self._serving.containers is not None:
            begun = prepare.submit(models[0], _maybe(pulled_image), self._serving, self._run.timed)
            through = self._kept(begun)
        verified: list[PrefectFuture[VerifiedServer]] = []
        for model in models:
            verified.append(self._start_model(model, pulled_image, through, after=verified))
        answers = tuple(later(one) for one in verified)
        self.promoted.append(self._kept(promote.submit(name, answers, self._serving)))

    def _start_model(
        self,
        model: PlannedModel,
        pulled_image: PrefectFuture[str] | None,
        through: PrefectFuture[str] | None,
        *,
        after: list[PrefectFuture[VerifiedServer]],
    ) -> PrefectFuture[VerifiedServer]:
        settings, timed = self._run.settings, self._run.timed
        address = later(through) if through is not None else model.external
        pulled = pull.submit(
            model,
            weights.places(settings, own=self._own(model)),
            self._ollama(model),
            self._fetching,
            timed,
            through=address,
        )
        self.pulled.append(self._kept(pulled))
        turns = after[-1:] if model.residency == "on-demand" else []
        served = self._kept(
            serve.submit(
                later(pulled),
                _maybe(pulled_image),
                self._serving,
                timed,
                wait_for=turns,
                return_state=False,
            )
        )
        asking = verifying.context(
            settings, self._plan, model, records=self._records, serving=self._serving, http=self._http
        )
        return self._kept(verify.submit(later(served), asking, timed))

    def _ollama(self, model: PlannedModel) -> Server:
        """Return the Ollama that pulls: ours, with a folder that can be read, or one that already runs."""
        return weights.server(self._run.settings, own=self._own(model))

    def _own(self, model: PlannedModel) -> bool:
        return self._serving.containers is not None and not model.external

    def gateway(self, make: Callable[[], Chosen]) -> PrefectFuture[Chosen]:
        """Begin to get what gateways are made of; models need not wait for it, and it not for them."""
        return self._kept(choose.submit(make, self._run.timed))

    def route(self, order: Order, ctx: RouteContext) -> PrefectFuture[Route]:
        """Begin the gateway's task."""
        self.rollout.append(self._kept(route.submit(order, ctx, self._run.timed)))
        return self.rollout[-1]

    def failure(self) -> Exception | None:
        """Return why a task failed, the first in the order of the chains; what only was stopped comes last.

        A task whose upstream failed never runs, and says nothing of why.
        """
        failed = [future for future in self.futures if future.state.is_failed() or future.state.is_crashed()]
        errors = [error for future in failed if isinstance(error := _error(future), Exception)]
        return min(errors, key=lambda error: isinstance(error, StoppedError), default=None)

    def _kept(self, future: PrefectFuture[Record]) -> PrefectFuture[Record]:
        self.futures.append(future)
        return future


def _error(future: PrefectFuture[Any]) -> object:
    return future.state.result(raise_on_failure=False)


def _maybe(future: PrefectFuture[str] | None) -> str:
    return later(future) if future is not None else ""
