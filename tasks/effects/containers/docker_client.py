"""The docker SDK's client, and its exceptions → errors of the seam.

The SDK is loaded with this module, so only what talks to an engine imports it. Its low-level client is used:
the comfortable one drops the errors of a pull, and follows the CLI's context to engines nobody named
(docs.docker.com/engine/manage-resources/contexts).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import requests
import urllib3
from docker.api.client import APIClient
from docker.errors import APIError, DockerException, NotFound

from tasks.effects.containers.faults import gone, said, shortened
from tasks.effects.containers.info import EngineError

__all__ = ["APIClient", "NotFound", "PullClient", "classified", "connect"]

HANDSHAKE = "Error while fetching server API version"


class PullClient(APIClient):
    """A client for one pull: it shows the response, so that its reader can be woken, and has a time limit."""

    response: requests.Response | None = None
    silent_s: float = 60.0

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # noqa: ANN401  # as above it
        """Send a request. The SDK sets no limit for a pull: a registry that stalls would hang it forever."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.silent_s
        self.response = super().send(request, **kwargs)
        return self.response


def connect(address: str, *, timeout_s: float) -> APIClient:
    """Return a client that has agreed with the engine on a version."""
    return APIClient(base_url=address, version="auto", timeout=timeout_s)  # type: ignore[arg-type]


@contextlib.contextmanager
def classified() -> Iterator[None]:
    """Turn everything that the SDK and what is below it raise into an EngineError.

    The SDK's own errors are one family of exceptions; an engine that dies shows in others, of which those of
    requests are OSErrors.
    """
    try:
        yield
    except APIError as error:
        raise said(_words(error)) from error
    except DockerException as error:
        text = str(error)
        if HANDSHAKE in text and "Client Error" not in text:
            raise gone(text) from error
        raise said(text) from error
    except (KeyError, ValueError, TypeError) as error:  # JSON that is none is a RequestException, too
        text = f"the container engine's answer is not understood ({shortened(str(error))})"
        raise EngineError(text) from error
    except (urllib3.exceptions.HTTPError, HTTPException, OSError, RuntimeError) as error:
        raise gone(f"{type(error).__name__} {error}") from error


def _words(error: APIError) -> str:
    words = error.explanation
    if isinstance(words, bytes):
        words = words.decode(errors="replace")
    return str(words or error)
