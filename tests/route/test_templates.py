"""Files that a config names are copied beside it, or the reason why not is one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import RouteError
from tasks.route.merge.managed import parse
from tasks.route.merge.templates import LARGEST_FILE_BYTES, MOST_FILES, copy_named_files, named_files

EVERY_PLACE = """\
[gateway]
template_filesystem_access.base_path = "shared"
[functions.f]
system_schema = "s/1"
user_schema = "s/2"
assistant_schema = "s/3"
output_schema = "s/4"
schemas.own.path = "s/5"
description = "no/path"
[functions.f.variants.v]
model = "no/path"
system_template = "t/1"
user_template = "t/2"
assistant_template = "t/3"
templates.own.path = "t/4"
input_wrappers = { user = "t/5", assistant = "t/6", system = "t/7" }
extra_body = [{ pointer = "/x", value = { system_template = "no/path", path = "no/path" } }]
[functions.f.variants.dicl]
system_instructions = "t/8"
[functions.f.variants.best.evaluator]
system_template = "t/9"
[functions.f.variants.mixture.fuser]
templates.own.path = "t/10"
[functions.f.evaluators.e.variants.v]
system_instructions = "e/1"
[evaluations.x.evaluators.j]
typescript_file = "e/2"
[evaluations.x.evaluators.e.variants.v.evaluator]
user_template = "e/3"
[tools.w]
parameters = "w/1"
description = "no/path"
"""
ALL = {
    *(f"s/{n}" for n in range(1, 6)),
    *(f"t/{n}" for n in range(1, 11)),
    *(f"e/{n}" for n in range(1, 4)),
    "w/1",
    "shared",
}


def config(path: str) -> dict[str, Any]:
    """Return a config that names one file."""
    return {"functions": {"f": {"variants": {"v": {"system_template": path}}}}}


def test_every_place() -> None:
    """All paths of the schema are found, and words elsewhere are no paths."""
    assert {str(path) for path in named_files(parse(EVERY_PLACE))} == ALL


def test_copies_lie_where_the_originals_do(tmp_path: Path) -> None:
    """Files and folders arrive at the same relative places, byte for byte, each once."""
    source, target = tmp_path / "from", tmp_path / "to"
    for name in (*(ALL - {"shared"}), "shared/a.minijinja", "shared/deep/b.minijinja", "not/named"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(f"{name}\r\n\xff".encode("latin-1"))

    copied = copy_named_files(parse(EVERY_PLACE), source, target)

    found = {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
    assert set(copied) == found
    assert len(copied) == len(found)
    assert {str(path) for path in found} == ALL - {"shared"} | {
        "shared/a.minijinja",
        "shared/deep/b.minijinja",
    }
    assert all((target / path).read_bytes() == (source / path).read_bytes() for path in found)


def test_absolute_paths_stay(tmp_path: Path) -> None:
    """What is named in full means the same from everywhere."""
    assert copy_named_files(config("/nowhere/s.minijinja"), tmp_path, tmp_path / "to") == ()
    assert not (tmp_path / "to").exists()
    assert named_files(config("/nowhere/s.minijinja")) == ()


def test_odd_ways_to_write_a_path(tmp_path: Path) -> None:
    """A path with dots and double slashes that stays inside is taken."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "s").write_text("x")

    copy_named_files(config("./t//s"), tmp_path, tmp_path / "to")

    assert (tmp_path / "to/t/s").read_text() == "x"


def test_links_inside_are_followed(tmp_path: Path) -> None:
    """A link to a file beside it is copied as the file."""
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")

    copy_named_files(config("link"), tmp_path, tmp_path / "to")

    assert not (tmp_path / "to/link").is_symlink()
    assert (tmp_path / "to/link").read_text() == "x"


def prepare(source: Path) -> None:
    """Make what can be named wrongly."""
    source.mkdir()
    (source.parent / "secret").write_text("x")
    (source / "up").symlink_to("../secret")
    (source.parent / "away").mkdir()
    (source.parent / "away" / "s").write_text("x")
    (source / "away").symlink_to("../away")
    (source / "round").symlink_to("round")
    os.mkfifo(source / "pipe")
    (source / "folder").mkdir()
    (source / "folder" / "up").symlink_to("../../secret")
    with (source / "large").open("wb") as stream:
        stream.truncate(LARGEST_FILE_BYTES + 1)


PLACE = "functions.f.variants.v.system_template"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret", f"'../secret', which {PLACE} names, leads out of its folder"),
        ("a/../../secret", f"'a/../../secret', which {PLACE} names, leads out of its folder"),
        ("", f"'.', which {PLACE} names, leads out of its folder"),
        ("gone", f"'gone', which {PLACE} names, cannot be read (No such file or directory)"),
        ("large/x", f"'large/x', which {PLACE} names, cannot be read (Not a directory)"),
        ("up", f"'up', which {PLACE} names, is a link to {{secret}}"),
        ("away", f"'away', which {PLACE} names, is a link to {{away}}"),
        ("folder", f"'folder/up', which {PLACE} names, is a link to {{secret}}"),
        ("round", f"'round', which {PLACE} names, cannot be read (it is a link to itself)"),
        ("pipe", f"'pipe', which {PLACE} names, is no file"),
        ("large", f"'large', which {PLACE} names, has more than 16.0 MiB"),
        ("a\0b", f"'a\\x00b', which {PLACE} names, cannot be read (it is no path)"),
    ],
)
def test_refused(tmp_path: Path, path: str, said: str) -> None:
    """What is not a file of the folder is named with its place in the config, and nothing is copied."""
    source = tmp_path / "from"
    prepare(source)

    with pytest.raises(RouteError) as caught:
        copy_named_files(config(path), source, tmp_path / "to")

    assert caught.value.what == said.format(secret=tmp_path / "secret", away=tmp_path / "away")
    assert not (tmp_path / "to").exists()


def test_too_many(tmp_path: Path) -> None:
    """A folder that was named by mistake is not copied."""
    (tmp_path / "many").mkdir()
    for number in range(MOST_FILES + 1):
        (tmp_path / "many" / str(number)).touch()

    with pytest.raises(RouteError, match="holds more than 2000 files"):
        copy_named_files(config("many"), tmp_path, tmp_path / "to")
