"""What an image of the lab runs in place of text-embeddings-inference: the embedded server, with its options.

    python3 tei_embedded.py --model-id /weights/models--ORG--NAME/snapshots/REVISION --served-model-name NAME
    --port 8080

It listens on all of the container's addresses, as the real one does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.serve.embedded import options

options.HOST = "0.0.0.0"

from starlette.applications import Starlette  # noqa: E402  # after the address is set
from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse, Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from tasks.serve.embedded import app  # noqa: E402
from tasks.serve.embedded.__main__ import main  # noqa: E402


class WithInfo(Starlette):
    """The server's application, and what TEI says of itself at /info."""

    def __init__(self, *given: object, routes: list[Route], **more: object) -> None:
        super().__init__(*given, routes=[*routes, Route("/info", info)], **more)  # type: ignore[arg-type]


async def info(_request: Request) -> Response:
    """Say which model is served."""
    name = sys.argv[sys.argv.index("--model") + 1]
    return JSONResponse({"model_id": name, "served_model_name": name})


app.Starlette = WithInfo  # type: ignore[misc]


def translated(given: list[str]) -> list[str]:
    """Return the embedded server's arguments for these."""
    values = dict(zip(given[::2], given[1::2], strict=False))
    snapshot = Path(values["--model-id"])
    folder = snapshot.parents[1]
    return [
        *("--port", values["--port"]),
        *("--cache", str(folder.parent)),
        *("--repo", folder.name.removeprefix("models--").replace("--", "/")),
        *("--revision", snapshot.name),
        *("--model", values["--served-model-name"]),
    ]


if __name__ == "__main__":
    sys.argv[1:] = translated(sys.argv[1:])
    sys.exit(main())
