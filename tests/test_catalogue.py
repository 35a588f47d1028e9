"""The catalogue that is shipped, and what is said about a wrong one.

A case in tests/cases/catalogue/bad is a file with two lines before it: where it is put beside the
small catalogue in tests/cases/catalogue/good, and what the error then says.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import catalogue, marked_yaml
from tasks.contracts import Catalogue
from tasks.errors import CatalogueError

CASES = Path(__file__).parent / "cases" / "catalogue"
BAD = sorted((CASES / "bad").glob("*.yaml"))
SHIPPED = sorted(catalogue.DEFAULT.glob("models/*.yaml")) + sorted(catalogue.DEFAULT.glob("hardware/*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small catalogue that can be changed."""
    return shutil.copytree(CASES / "good", tmp_path / "profiles")


def profile(folder: Path, text: str) -> Path:
    """Write the profile `other` and return where."""
    path = folder / "hardware" / "other.yaml"
    path.write_text(text)
    return path


def said(folder: Path) -> str:
    """Return the error's sentence."""
    with pytest.raises(CatalogueError) as caught:
        catalogue.load(folder)
    return str(caught.value)


@pytest.mark.parametrize("case", BAD, ids=lambda path: path.stem)
def test_bad_file(case: Path, folder: Path) -> None:
    """A wrong file is named with line and field, and nothing was changed."""
    where, says = (line.partition(": ")[2] for line in case.read_text().splitlines()[:2])
    shutil.copy(case, folder.parent / where)

    assert f"{says}; nothing was changed; correct the file." == said(folder)


def test_shipped_catalogue_loads() -> None:
    """Every profile of the recommendation guide is there, in the order of the names."""
    loaded = catalogue.load()

    assert list(loaded.profiles) == [
        "cpu-only",
        "dual-gpu",
        "embedded",
        "jetson",
        "rtx-3090-ti",
        "rtx-4090",
        "rtx-5090",
    ]
    assert sorted(loaded.models) == list(loaded.models)


def test_shipped_profiles_can_all_embed() -> None:
    """The last choice for embeddings is the model that needs no engine."""
    loaded = catalogue.load()
    last = {
        wish.models[-1] for p in loaded.profiles.values() for wish in p.bundle if wish.role == "embeddings"
    }
    embedded = {name for name, model in loaded.models.items() if "embedded" in model.runtimes}

    assert {"all-minilm-l6-v2"} == last == embedded


def test_shipped_embedded_model_is_pinned() -> None:
    """The model that is served everywhere has weights, and a wheel that carries them."""
    model = catalogue.load().models["all-minilm-l6-v2"]

    assert model.weights is not None
    assert model.weights.wheel is not None
    assert model.weights.size_bytes == 612 + 466_247 + 90_868_376
    assert (model.dimensions, model.max_tokens) == (384, 256)


def test_shipped_memory_holds_the_weights() -> None:
    """No model is said to need less memory than its smallest form has bytes."""
    for model in catalogue.load().models.values():
        origins = (model.weights, model.ollama, model.unpinned_repo)
        smallest = min(origin.size_bytes for origin in origins if origin)

        assert smallest < model.memory.value_bytes, model.name


@pytest.mark.parametrize(
    ("name", "cards", "memory_mib"),
    [("rtx-3090-ti", 1, 24564), ("rtx-4090", 1, 24564), ("rtx-5090", 1, 32607), ("dual-gpu", 2, 24564)],
)
def test_shipped_profiles_take_the_cards_they_are_for(name: str, cards: int, memory_mib: int) -> None:
    """What the driver reports of a card is enough for its profile."""
    match = catalogue.load().profiles[name].match
    card_bytes = memory_mib * 2**20

    assert match.min_cards == cards
    assert match.min_card_memory_bytes <= card_bytes
    assert match.min_memory_bytes <= cards * card_bytes


def test_order_of_files_does_not_matter(tmp_path: Path) -> None:
    """Model files under other names, read in another order, give the same catalogue."""
    folder = shutil.copytree(catalogue.DEFAULT, tmp_path / "profiles")
    for number, path in enumerate(sorted((folder / "models").iterdir(), reverse=True)):
        path.rename(path.with_name(f"{number}.yaml"))

    again = catalogue.load(folder)

    assert catalogue.load() == again
    assert list(catalogue.load().models) == list(again.models)


def test_anchors_are_allowed(folder: Path) -> None:
    """An anchor gives a value to a second place, and a merged mapping can be overridden."""
    profile(
        folder,
        "name: other\ntitle: &text Any host\nhardware: *text\n"
        "match: {<<: &size {min_cards: 1, min_memory_bytes: 2}, min_cards: 3}\nbundle: []\n",
    )

    loaded = catalogue.load(folder).profiles["other"]

    assert (loaded.hardware, loaded.match.min_cards, loaded.match.min_memory_bytes) == ("Any host", 3, 2)


def test_text_that_looks_like_a_date_stays_text(folder: Path) -> None:
    """YAML's dates, sets and binaries do not exist here."""
    profile(folder, "name: other\ntitle: 2026-01-01\nhardware: any\nmatch: {}\nbundle: []\n")

    assert catalogue.load(folder).profiles["other"].title == "2026-01-01"


def test_same_without_libyaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML in pure Python reads the same catalogue."""
    fast = catalogue.load(folder)
    monkeypatch.setattr(marked_yaml, "_Loader", yaml.SafeLoader)

    assert fast == catalogue.load(folder)


def test_not_text(folder: Path) -> None:
    """A file that is not UTF-8 is named."""
    profile(folder, "").write_bytes(b"name: \xff\n")

    assert said(folder).startswith("profiles/hardware/other.yaml: byte 6 is not UTF-8 text; ")


def test_not_a_file(folder: Path) -> None:
    """A file that cannot be read is named with the system's reason."""
    (folder / "hardware" / "other.yaml").mkdir()

    assert said(folder).startswith("profiles/hardware/other.yaml: the file cannot be read (Is a directory); ")


def test_no_folder(tmp_path: Path) -> None:
    """A folder without a catalogue is named."""
    assert said(tmp_path).startswith(
        f"{tmp_path}/models: the catalogue's folder cannot be read (No such file or directory); "
    )


def test_other_ending(folder: Path) -> None:
    """A .yml file is refused, because it would be left out in silence."""
    profile(folder, "").rename(folder / "hardware" / "other.yml")

    assert said(folder).startswith("profiles/hardware/other.yml: a catalogue file ends in .yaml; ")


def test_an_editors_files_are_left_out(folder: Path) -> None:
    """Hidden files and backups are not read."""
    (folder / "hardware" / ".#known.yaml").write_text("}")
    (folder / "hardware" / "known.yaml~").write_text("}")

    assert list(catalogue.load(folder).profiles) == ["known"]


def test_profile_names_are_not_parsed(folder: Path) -> None:
    """The names for a form come from the files' names alone."""
    profile(folder, "}")

    assert catalogue.profile_names(folder) == ("known", "other")
    assert tuple(catalogue.load().profiles) == catalogue.profile_names()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rtx-4080", "rtx-4090"),
        ("RTX 5090", "rtx-5090"),
        ("rtx_3090_ti", "rtx-3090-ti"),
        ("jetsn", "jetson"),
        ("emdedded", "embedded"),
        ("m2-ultra", None),
        ("", None),
    ],
)
def test_nearest(name: str, near: str | None) -> None:
    """A misspelt name has a nearest one; a foreign one has none."""
    assert near == catalogue.nearest(name, catalogue.profile_names())


def loads_or_explains(name: str, text: str) -> bool:
    """Put `text` in the place of a shipped file and load; anything but a CatalogueError goes through."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(catalogue.DEFAULT, Path(temporary) / "profiles")
        (folder / name).write_text(text)
        try:
            return isinstance(catalogue.load(folder), Catalogue)
        except CatalogueError as error:
            return error.what.startswith("profiles/")


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.binary(max_size=3),
)


def places(node: object) -> list[tuple[dict[str, object] | list[object], str | int]]:
    """Return every container and key of a parsed file."""
    if not isinstance(node, dict | list):
        return []
    keys = list(node) if isinstance(node, dict) else range(len(node))
    below = [place for key in keys for place in places(node[key])]  # type: ignore[call-overload,index]
    return [(node, key) for key in keys] + below


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_change_of_a_value_ends_in_a_traceback(data: st.DataObject) -> None:
    """A shipped file with a key dropped, renamed or of another type loads or is explained."""
    path = data.draw(st.sampled_from(SHIPPED))
    content = yaml.safe_load(path.read_text())
    container, key = data.draw(st.sampled_from(places(content)))
    value = container.pop(key)  # type: ignore[call-overload,arg-type]
    change = data.draw(st.sampled_from(["drop", "rename", "retype"]))
    if change == "rename" and isinstance(container, dict):
        container[data.draw(st.text(max_size=8))] = value
    elif change == "retype":
        new = data.draw(values)
        container.insert(key, new) if isinstance(container, list) else container.update({key: new})

    assert loads_or_explains(
        str(path.relative_to(catalogue.DEFAULT)), yaml.safe_dump(content, allow_unicode=True)
    )


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_change_of_the_text_ends_in_a_traceback(data: st.DataObject) -> None:
    """A shipped file with a piece of its text cut out and another put in loads or is explained."""
    path = data.draw(st.sampled_from(SHIPPED))
    text = path.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    piece = data.draw(st.text("[]{}:,-#&*!|>'\"%@`?<=~ \n\tab01", max_size=6))

    assert loads_or_explains(str(path.relative_to(catalogue.DEFAULT)), text[:start] + piece + text[end:])
