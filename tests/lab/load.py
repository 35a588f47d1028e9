"""Requests at a fixed rate, whatever becomes of those before: a process of its own.

python -m tests.lab.load --url URL --model NAME --per-s 200 --seconds 60 [--streams 0.25] [--token TOKEN]

Every answer's text is counted, so that a model server that says which config asked it tells which one was in
use when. Prints one line of JSON, a `Report`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import httpx

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0


@dataclass
class Report:
    """What became of the requests. `lost` counts by reason, `texts` the answers by what they said.

    `seconds` are those of whole answers that are no streams, in the order in which they came; `first_s` is
    when the first answer of each text came, and `last_s` the last, in seconds from the start.
    """

    asked: int = 0
    answered: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    first_s: dict[str, float] = field(default_factory=dict)
    last_s: dict[str, float] = field(default_factory=dict)


class Load:
    """The process. Use `start`, do what is to be done meanwhile, then `report`."""

    def __init__(self, url: str, model: str, *, per_s: float, seconds: float, streams: float = 0.25) -> None:
        self._command = (
            *(sys.executable, "-m", "tests.lab.load", "--url", url, "--model", model),
            *("--per-s", str(per_s), "--seconds", str(seconds), "--streams", str(streams)),
        )
        self._seconds = seconds

    def start(self) -> Self:
        """Begin to ask."""
        self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return self

    def report(self) -> Report:
        """Wait for the last answer."""
        said, _ = self.process.communicate(timeout=self._seconds + 2 * TIMEOUT_S)
        return Report(**json.loads(said.splitlines()[-1]))


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, object]) -> str:
    """Return the whole text of one answer.

    Raises:
        ValueError: it is not an answer, or not whole; says why.
    """
    if not body.get("stream"):
        reply = await client.post(url, json=body)
        if reply.status_code != httpx.codes.OK:
            raise ValueError(f"HTTP {reply.status_code}")
        return str(reply.json()["choices"][0]["message"]["content"])
    words, done = [], False
    async with client.stream("POST", url, json=body) as stream:
        if stream.status_code != httpx.codes.OK:
            raise ValueError(f"HTTP {stream.status_code}")
        async for line in stream.aiter_lines():
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                done = True
            elif data != line:
                event = json.loads(data)
                if "error" in event:
                    raise ValueError("an error in the stream")
                words += [one["delta"].get("content") or "" for one in event["choices"]]
    if not done:
        raise ValueError("a stream without its end")
    return "".join(words)


async def run(options: argparse.Namespace) -> Report:
    """Ask at the given rate, and wait for all answers."""
    report, lost, texts = Report(), Counter[str](), Counter[str]()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    headers = {"authorization": f"Bearer {options.token}"} if options.token else {}
    begun = time.monotonic()

    async def one(number: int, client: httpx.AsyncClient) -> None:
        stream = (number * options.streams) % 1 + options.streams > 1 - 1e-9
        body: dict[str, object] = {
            "model": options.model,
            "messages": [{"role": "user", "content": f"question {number}"}],
            **({"stream": True} if stream else {}),
        }
        asked = time.monotonic()
        try:
            text = await ask(client, options.url, body)
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            lost[f"{type(error).__name__}: {error}"[:120]] += 1
            return
        now = time.monotonic()
        texts[text] += 1
        report.first_s.setdefault(text, now - begun)
        report.last_s[text] = now - begun
        if not stream:
            report.seconds.append(now - asked)

    async with httpx.AsyncClient(
        limits=limits, timeout=TIMEOUT_S, trust_env=False, headers=headers
    ) as client:
        tasks: list[asyncio.Task[None]] = []
        for number in range(round(options.per_s * options.seconds)):
            await asyncio.sleep(max(0.0, begun + number / options.per_s - time.monotonic()))
            tasks.append(asyncio.create_task(one(number, client)))
        await asyncio.gather(*tasks)
    report.asked, report.answered = len(tasks), sum(texts.values())
    report.lost, report.texts = dict(lost), dict(texts)
    return report


def main(arguments: Sequence[str]) -> None:
    """Ask, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.load")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--per-s", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--streams", type=float, default=0.25, help="the share of requests that are streams")
    parser.add_argument("--token", default="")
    report = asyncio.run(run(parser.parse_args(arguments)))
    sys.stdout.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
