"""Output: nothing of a device's or a file's name reaches the terminal as a control sign."""

from __future__ import annotations

import io
import sys

import pytest

from flows import printing


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("bell\x07, back\x08, \x9b1m", "bell?, back?, ?1m"),
        ("right to left \u202e", "right to left ?"),
        ("█▓ Größe 记忆", "█▓ Größe 记忆"),
    ],
)
def test_control_signs_are_taken_out(text: str, shown: str) -> None:
    """All but the end of a line and a tab."""
    assert printing.harmless(text) == shown


@pytest.mark.parametrize(("encoding", "blocks"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_block_signs_are_for_those_who_can_write_them(
    encoding: str,
    blocks: bool,  # noqa: FBT001  # a column
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not what the locale promises but what the stream can encode."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))

    assert printing.writes_blocks() is blocks


def test_a_sign_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes a question mark."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))

    printing.never_fail_to_encode()
    printing.out("x", lambda: "Größe", as_json=False)

    assert raw.getvalue() == b"Gr??e\n"
