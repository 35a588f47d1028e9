"""What goes over the wire beside JSON: a form with a file; and text from there, fit for a terminal. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file that is sent in a form."""

    field: str
    name: str
    content_type: str
    content: bytes


def multipart(form: Mapping[str, str], file: FormFile) -> tuple[bytes, str]:
    """Return the body of a form (RFC 7578) and its content type. Names and values are our own."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in form.items()
    ]
    head = f'Content-Disposition: form-data; name="{file.field}"; filename="{file.name}"'
    parts.append(f"--{boundary}\r\n{head}\r\nContent-Type: {file.content_type}\r\n\r\n".encode())
    parts += [file.content, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def printable(text: str) -> str:
    """Return a text on one line, without what could move a terminal's cursor."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
