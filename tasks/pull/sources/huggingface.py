"""A Hugging Face Hub, or whatever speaks like one: a mirror, a neighbour that seeds.

A pinned file is fetched over plain HTTP from `{endpoint}/{repo}/resolve/{revision}/{path}`, by the engine in
`tasks/pull/fetch/`. The hub's own client is not used for that: it has not resumed across processes since
1.18, checks sizes only, and asks twice for each file. Listing a repository (`tasks/pull/resolve/`) and Xet
(`xet.py`) are left to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from urllib.parse import quote

from tasks.contracts import Reach, WeightFile, Weights
from tasks.errors import PullError, SourceUnavailableError
from tasks.pull.claim import refused, unavailable
from tasks.pull.fetch.engine import Fetching, fetch
from tasks.pull.fetch.item import Wanted
from tasks.pull.fetch.partial import peek_bytes
from tasks.pull.fetch.web import StatusError, Web
from tasks.pull.sources import xet
from tasks.pull.sources.job import Job

PIN = "check the pin in the catalogue"


@dataclass(frozen=True, slots=True)
class Hub:
    """One hub. `reach` is what detection saw of it: one that did not answer is not asked again."""

    NAME: str
    endpoint: str
    token: str | None = field(default=None, repr=False)
    reach: Reach | None = None

    def room_bytes(self, _weights: Weights, files: tuple[WeightFile, ...]) -> int:
        """Return the size of the files: each is fetched on the store's disk and moved."""
        return sum(file.size_bytes for file in files)

    def fetch(self, job: Job) -> int:
        """Fetch files in parallel and go on with what an earlier pull left. See `Source.fetch`."""
        if self.reach is not None and not self.reach.answers:
            raise unavailable(f"the hub does not answer ({self.reach.detail})")
        web = Web(job.context.wires, home=self.endpoint, token=self.token)
        try:
            crossed, brought = self._with_xet(job, web)
            left = [file for file in _longest_first(job.files) if file not in brought]
            return crossed + self._in_ranges(job, web, left, before=sum(file.size_bytes for file in brought))
        finally:
            web.close()

    def _in_ranges(self, job: Job, web: Web, files: list[WeightFile], *, before: int) -> int:
        """Fetch files with the engine; `before` bytes of the job are there already."""
        context, by_path = job.context, {file.path: file for file in files}
        given = Fetching(
            web=web,
            line=context.line,
            explain=lambda error, wanted: self.explain(error, job.weights, wanted.path),
            tell=lambda done, note: job.tell(
                note or f"fetching {job.weights.repo}", done_bytes=before + done, total_bytes=job.size_bytes
            ),
            subject=job.model,
            stop=context.stop,
            quiet_s=context.quiet_s,
            tries=context.tries,
        )
        began = time.monotonic()
        crossed = fetch(
            tuple(self._wanted(job, file) for file in files),
            given,
            lambda wanted, digest: job.deliver(by_path[wanted.path], wanted.part, digest=digest),
        )
        if context.line.limit() is None:
            xet.keep_rate(job.cache, "ranges", crossed, time.monotonic() - began)
        return crossed

    def _with_xet(self, job: Job, web: Web) -> tuple[int, list[WeightFile]]:
        """Fetch with Xet what it is the faster way for; whatever it fails at is left to ranges."""
        crossed, brought = 0, list[WeightFile]()
        if job.context.line.limit() is not None:  # Xet keeps to no limit of ours
            return crossed, brought
        rates = xet.read_rates(job.cache)
        for file in _longest_first(job.files):
            wanted = self._wanted(job, file)
            if xet.choose(file.size_bytes, peek_bytes(wanted.part), rates) == "ranges":
                continue
            if not xet.possible(web, wanted.url):
                break
            try:
                before = sum(one.size_bytes for one in brought)
                crossed += xet.fetch(job, file, endpoint=self.endpoint, token=self.token, before=before)
            except SourceUnavailableError as error:
                job.tell(f"{error.what}; taking ranges")
                break
            brought.append(file)
        return crossed, brought

    def explain(self, error: StatusError, weights: Weights, path: str) -> PullError:
        """Return the error that a status of the hub stands for, by the code that it sends along."""
        repo, revision = weights.repo, weights.revision
        code = error.headers.get("x-error-code", "")
        sentences = {
            "GatedRepo": (
                f"{repo} is gated",
                f"accept its licence at {self.endpoint}/{repo} and set HF_TOKEN",
            ),
            "RepoNotFound": (
                f"the hub has no {repo}, or it is private",
                "check the name, or set HF_TOKEN",
            ),
            "RevisionNotFound": (f"the hub has no revision {revision} of {repo}", PIN),
            "EntryNotFound": (f"{repo} has no {path} at {revision}", PIN),
        }
        otherwise = (f"the hub answered {error.reason} for {path}", "check HF_TOKEN and the pin")
        return refused(*sentences.get(code, otherwise))

    def _wanted(self, job: Job, file: WeightFile) -> Wanted:
        weights = job.weights
        url = f"{self.endpoint.rstrip('/')}/{weights.repo}/resolve/{weights.revision}/{quote(file.path)}"
        part = job.parts / f"{file.digest.partition(':')[2]}.part"
        return Wanted(file.path, url, file.size_bytes, file.digest, part)


def _longest_first(files: tuple[WeightFile, ...]) -> list[WeightFile]:
    """Put the largest files in front, so that no long one is left for the end."""
    return sorted(files, key=lambda file: -file.size_bytes)
