"""The JSON Schemas of profiles/ and of the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from tasks import schemas
from tasks.catalogue import DEFAULT
from tasks.contracts import Decision, Plan, PlanChange

GOOD = Path(__file__).parent / "cases" / "catalogue" / "good"
KINDS = {"models": "models", "hardware": "profile", "services": "service"}
SINGLE = ("devices", "images", "routing")
FILE_KINDS = (*KINDS.values(), *SINGLE)
PLAN = Plan(
    host="here",
    profile="cpu-only",
    profile_why="wished for",
    models=(),
    decisions=(Decision("llm", "dropped", "tiny-chat", None, "nothing fits"),),
    download_bytes=0,
    disk_needed_bytes=0,
    disk_free_bytes=1,
    store="/store",
    advice=(),
)


def files(folder: Path) -> list[tuple[Path, str]]:
    """Return every file of a catalogue, and its kind."""
    found = [(path, kind) for name, kind in KINDS.items() for path in sorted((folder / name).glob("*.yaml"))]
    return [*found, *((folder / f"{kind}.yaml", kind) for kind in SINGLE)]


def shown(value: object) -> str:
    """Name a case in the tests' output."""
    return value.name if isinstance(value, Path) else str(value)


def validate(content: object, kind: str) -> None:
    """Raise where `content` is not what the schema allows."""
    jsonschema.Draft202012Validator(schemas.schemas()[kind]).validate(content)


def test_committed_schemas_are_current() -> None:
    """profiles/schemas/ has what `python -m tasks.schemas` writes, and nothing else."""
    want = {f"{kind}.schema.json": schemas.rendered(one) for kind, one in schemas.schemas().items()}

    assert want == {path.name: path.read_text() for path in schemas.FOLDER.iterdir()}


def test_written_schemas_are_the_rendered_ones(tmp_path: Path) -> None:
    """Each schema is written to the file of its kind, with sorted keys and a last line that ends."""
    schemas.write(tmp_path)
    text = (tmp_path / "devices.schema.json").read_text()

    assert {f"{kind}.schema.json" for kind in schemas.schemas()} == {path.name for path in tmp_path.iterdir()}
    assert json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n" == text


@pytest.mark.parametrize("kind", [*FILE_KINDS, "plan", "plan-diff"])
def test_schema_is_one(kind: str) -> None:
    """A schema is valid draft 2020-12, has a title, and describes each record in plain paragraphs."""
    schema = schemas.schemas()[kind]
    parts = schema["$defs"].values()

    jsonschema.Draft202012Validator.check_schema(schema)
    assert "https://json-schema.org/draft/2020-12/schema" == schema["$schema"]
    assert schema["title"]
    assert "$id" not in schema
    assert all(part["title"] and part["description"] and "  " not in part["description"] for part in parts)


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_schema_of_a_file_allows_no_other_key(kind: str) -> None:
    """A misspelt key is marked in every mapping of a file."""
    parts = schemas.schemas()[kind]["$defs"].values()

    assert {False} == {part["additionalProperties"] for part in parts}


@pytest.mark.parametrize(("path", "kind"), files(GOOD) + files(DEFAULT), ids=shown)
def test_files_fit_their_schema(path: Path, kind: str) -> None:
    """What the catalogue takes, an editor takes too."""
    validate(yaml.safe_load(path.read_text()), kind)


def change(content: dict[str, Any], **values: object) -> dict[str, Any]:
    """Return a changed copy."""
    return {**content, **values}


@pytest.mark.parametrize(
    "wrong", [{"titel": "Known"}, {"title": 3}, {"bundle": [{"role": "lm"}]}, {"example": {}}], ids=str
)
def test_wrong_file_does_not_fit(wrong: dict[str, object]) -> None:
    """A key, type, word or field that the catalogue refuses, an editor marks too."""
    good = yaml.safe_load((GOOD / "hardware" / "known.yaml").read_text())
    validate(good, "profile")

    with pytest.raises(jsonschema.ValidationError):
        validate(change(good, **wrong), "profile")


def test_plan_fits_its_schema() -> None:
    """A plan and its changes are printed as their schemas say."""
    changes = (PlanChange("tiny-chat", "create", "it is wished for", 5),)

    validate(json.loads(msgspec.json.encode(PLAN)), "plan")
    validate(json.loads(msgspec.json.encode(changes)), "plan-diff")


@pytest.mark.parametrize(("path", "kind"), files(DEFAULT), ids=shown)
def test_shipped_file_names_its_schema(path: Path, kind: str) -> None:
    """The first line of a shipped file tells an editor the schema, and the schema is there."""
    to_schemas = "schemas" if path.parent == DEFAULT else "../schemas"
    first = path.read_text().splitlines()[0]

    assert f"# yaml-language-server: $schema={to_schemas}/{kind}.schema.json" == first
    assert (path.parent / to_schemas / f"{kind}.schema.json").is_file()
