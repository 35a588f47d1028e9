"""A model server that costs next to nothing and says which config asked it: a process of its own.

python -m tests.lab.quick_model PORT

It answers every chat with the `max_tokens` of the request, at once or as a stream of five words in 50 ms, and
every text with the vector (0.6, 0.8).
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.environment import free_port
from tests.lab.gateway import until

ROOT = Path(__file__).resolve().parents[2]
WORDS, WORD_S = 5, 0.01


class QuickModel:
    """The process. `base_url` ends in `/v1`; leaving the block ends it by pid."""

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def base_url(self) -> str:
        """What a provider is told."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        command = (sys.executable, "-m", "tests.lab.quick_model", str(self.port))
        self.process = subprocess.Popen(command, cwd=ROOT)
        until(self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(10)


def chat(body: dict[str, Any]) -> bytes:
    """Return a whole answer."""
    said = {"role": "assistant", "content": said_by(body)}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps(
        {
            "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": usage,
        }
    ).encode()  # fmt: skip


def event(body: dict[str, Any], word: str, finish: str | None) -> bytes:
    """Return a part of a stream."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"


def said_by(body: dict[str, Any]) -> str:
    """Return what tells one config from another."""
    return str(body.get("max_tokens", 0))


def vectors(body: dict[str, Any]) -> bytes:
    """Return the same vector for each text."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": i, "embedding": [0.6, 0.8]} for i in range(len(texts))]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return json.dumps({"object": "list", "model": body["model"], "data": data, "usage": usage}).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection's requests, one after another."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length: ")[2].split("\r\n")[0] or 0)
            raw = await reader.readexactly(length)
            body = json.loads(raw) if raw else {}
            if body.get("stream"):
                await stream(body, writer)
                return
            said = vectors(body) if "input" in body else chat(body) if "messages" in body else b"{}"
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said)
                + said
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def stream(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Say it in parts, and close."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    words = [said_by(body), *[""] * (WORDS - 1)]
    for number, word in enumerate(words):
        writer.write(event(body, word, "stop" if number == WORDS - 1 else None))
        await writer.drain()
        await asyncio.sleep(WORD_S)
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()


async def serve(port: int) -> None:
    """Serve until this process is ended."""
    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
