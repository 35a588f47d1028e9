"""Sizes as people write them."""

from __future__ import annotations

import pytest

from flows.cli_plan import given
from flows.wants import parse_size
from tasks.errors import UsageError

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("", None),
        ("1048576", 1 << 20),
        ("7000000 b", 7_000_000),
        ("20GiB", 20 * GIB),
        ("20 gib", 20 * GIB),
        (" 20GIB ", 20 * GIB),
        ("1.5GiB", GIB * 3 // 2),
        ("512MiB", 512 << 20),
        ("3072KiB", 3 << 20),
        ("2TiB", 2 << 40),
        ("20GB", 20 * 10**9),
        ("20mb", 20 * 10**6),
        ("2000kb", 2_000_000),
        ("1TB", 10**12),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int | None) -> None:
    """GiB counts in 1024, GB in 1000, no unit is bytes; no text is no cap."""
    assert size_bytes == parse_size(text, "the cap")


@pytest.mark.parametrize("text", ["0", "20", "20 b", "1kb"])
def test_a_size_that_is_too_small_to_be_meant_is_refused(text: str) -> None:
    """A number without a unit is bytes, and nobody means so few."""
    with pytest.raises(UsageError, match=r"which is \d+ bytes; nothing was changed; write for example 20GiB"):
        parse_size(text, "the cap of each card")


@pytest.mark.parametrize("text", ["20G", "GiB", "-1GiB", "1,5GiB", "20 GiB each", "1e9", "inf", "1.GiB"])
def test_other_texts_are_refused(text: str) -> None:
    """The refusal names what the size is for and shows how to write one."""
    with pytest.raises(UsageError) as refused:
        parse_size(text, "the cap of each card")

    assert f"the cap of each card is {text!r}, which is not a size" in str(refused.value)
    assert "nothing was changed; write for example 20GiB." in str(refused.value)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_option_that_is_there_and_empty_is_refused(text: str) -> None:
    """An unset variable in a script is not "no cap"."""
    with pytest.raises(UsageError, match="--vram is empty; nothing was changed; give it a value"):
        given(text, "--vram")
    assert given(None, "--vram") == ""
    assert given("20GiB", "--vram") == "20GiB"
