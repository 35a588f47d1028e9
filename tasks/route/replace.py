"""A new gateway in place of the one that serves, or everything as it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks.contracts import Answer
from tasks.errors import ProvisionError, RouteError, StoppedError
from tasks.route import journal as journals
from tasks.route.compose import Wanted, refuse_changed
from tasks.route.context import INTACT, RouteContext
from tasks.route.gateways.contract import Instance
from tasks.route.generations import Proven, Store
from tasks.route.journal import Journal, Step
from tasks.route.merge.services_file import ServicesFile
from tasks.route.migrate import take_port
from tasks.route.probe import smoke
from tasks.route.proxy.contract import Target, failed
from tasks.route.retire import drain, retire, running
from tasks.route.undo import Before, Undo, go_back
from tasks.route.watch import Ended, judge

POLL_S = 0.5
UNWATCHED = "not watched, because no gateway served before"


@dataclass(slots=True)
class Replacement:
    """One try. `name` is the generation that is to serve; `watched` is what was seen after the switch."""

    wanted: Wanted
    name: str
    before: Before
    ctx: RouteContext
    begun: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    watched: str = ""

    @property
    def blue(self) -> Instance | None:
        """The gateway in use."""
        return self.before.blue

    @property
    def store(self) -> Store:
        """Where configs lie."""
        return Store(self.ctx.folder)

    def run(self) -> tuple[Instance, tuple[Answer, ...]]:
        """Bring the new gateway into use; return it, and its answers.

        Raises:
            ProvisionError: why not; all is as it was, or the sentence says what is not.
        """
        try:
            done = self._prove()
        except StoppedError as error:
            back = go_back(self.name, None, self.before, self.ctx)
            raise StoppedError(error.what, back.intact, back.then or error.then) from error
        except ProvisionError as error:
            back = go_back(self.name, self.wanted.text, self.before, self.ctx)
            read = f"read {back.rejected}, then {error.then}" if back.rejected else error.then
            then = back.then or read
            raise type(error)(error.what, back.intact, then) from error
        except OSError as error:
            back = go_back(self.name, self.wanted.text, self.before, self.ctx)
            what = f"the rollout cannot go on: {error}"
            raise RouteError(
                what, back.intact, back.then or "correct that and start the run again"
            ) from error
        except (Exception, KeyboardInterrupt):
            go_back(self.name, None, self.before, self.ctx)
            raise
        keys = self.store.keys(self.blue.generation).read_text() if self.blue else ""
        self.ctx.undo.append(Undo(self.name, self.before, keys))
        self._end_blue()
        return done

    def _prove(self) -> tuple[Instance, tuple[Answer, ...]]:
        wanted, ctx = self.wanted, self.ctx
        self._step("write")
        generation = self.store.write(self.name, wanted.text, wanted.keys, wanted.copy_files)
        self._step("check")
        ctx.check(generation.config)
        ctx.say(f"config sha256 {wanted.config_hash[:8]} is valid")
        self._step("start")
        ctx.gateways.prepare()
        green = ctx.gateways.start(generation, deadline_s=ctx.start_s)
        self._step("smoke")
        answers = smoke(wanted.asks, green.base_url, ctx.http, between=ctx.refuse_stopped)
        self._step("switch")
        refuse_changed(wanted, ctx)
        usual = failed(ctx.proxy.counts(), self.blue.generation) if self.blue else (0, 0)
        take_port(Target(self.name, green.port), ctx)
        ctx.say(f"requests go to {self.name} now")
        self._step("watch")
        self._watch(usual)
        self._step("services")
        services = ServicesFile(ctx.env_file)
        services.put(services.merged(wanted.environment))
        self._step("drain")
        if self.blue is not None:
            drain(self.blue, ctx)
        self.store.prove(Proven(self.name, wanted.environment))
        return green, answers

    def _step(self, step: Step) -> None:
        """Note what is done next, unless the run is to end."""
        self.ctx.refuse_stopped()
        self._journal(step)

    def _journal(self, step: Step) -> None:
        blue = self.blue.generation if self.blue else ""
        journal = Journal(self.name, blue, step, self.begun, self.wanted.asks, self.wanted.environment)
        journals.write(self.ctx.folder, journal)

    def _watch(self, usual: Ended) -> None:
        """Look at what the proxy counts until the time is over.

        Raises:
            RouteError: the new gateway fails more than the one before did, or is gone.
        """
        ctx, begun = self.ctx, self.ctx.clock()
        if self.blue is None:
            self.watched = UNWATCHED
            return
        while True:
            ctx.refuse_stopped()
            passed = ctx.clock() - begun
            verdict = judge(failed(ctx.proxy.counts(), self.name), usual, passed)
            if not verdict.right:
                raise RouteError(f"{verdict.text}", INTACT, "look at the model servers' logs")
            self._refuse_gone()
            if passed >= ctx.watch_s:
                self.watched = verdict.text
                return
            ctx.sleep(min(POLL_S, ctx.watch_s - passed))

    def _refuse_gone(self) -> None:
        active = self.ctx.proxy.active()
        if self.name not in running(self.ctx):
            said = self.ctx.gateways.log_tail(self.name)
            what = f"the new gateway ended after the switch (last output: {said})"
        elif active is None or active.name != self.name or not self.ctx.proxy.runs():
            what = "the proxy ended, or was led elsewhere, after the switch"
        else:
            return
        raise RouteError(what, INTACT, "start the run again")

    def _end_blue(self) -> None:
        """End the gateway of before. The new one is in use and right, whatever becomes of this."""
        left = set()
        try:
            self._journal("retire")
            if self.blue is not None and not retire(self.blue, self.ctx, drained=True):
                left = {self.blue.generation}
            self.store.tidy({self.name, *left}, self.ctx.keep)
            journals.settle(self.ctx.folder)
        except (OSError, ProvisionError) as error:
            self.ctx.say(f"the next run ends what is left of the gateway of before: {error}")
