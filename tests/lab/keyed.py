"""A model server on loopback that notes by which key it is asked, and a config that has one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tasks.route.merge.keys import gateway_environment

VARIABLE = "PMOVES_KEY_LAB"
ODD_KEY = """sk-$HOME`id`'a'"b"#%=\\n;&x"""
"""A key of signs that shells, TOML and env files take for something else."""


def environment_of(config: str, key: str = ODD_KEY) -> str:
    """Return the text of an environment file with the key that a config asks for."""
    return gateway_environment(config, {VARIABLE: "LAB"}, {"LAB": key})


class Keyed:
    """The server. Used as a context manager; `keys` has what followed "Bearer" in each request."""

    def __enter__(self) -> Self:
        self.keys: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.keyed = self
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def config(self) -> str:
        """A config with the embedding model `m` on it, by the key in `VARIABLE`."""
        return f"""\
[embedding_models.m]
routing = ["p"]
[embedding_models.m.providers.p]
type = "openai"
api_base = "http://127.0.0.1:{self._server.server_port}/v1/"
model_name = "m"
api_key_location = "env::{VARIABLE}"
"""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    keyed: Keyed


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is given
        """Say nothing."""

    def do_POST(self) -> None:
        """Note the key, and answer with one vector."""
        self.rfile.read(int(self.headers["content-length"]))
        self.server.keyed.keys.append(self.headers["authorization"].removeprefix("Bearer "))
        row = {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = json.dumps({"object": "list", "model": "m", "data": [row], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
