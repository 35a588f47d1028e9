"""What is said about a wrong catalogue, how a right one is kept, and the one that is shipped.

A case in tests/cases/catalogue/bad is a file with two lines before it: where it is put beside the
small catalogue in tests/cases/catalogue/good, and what the error then says.
"""

from __future__ import annotations

import errno
import functools
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.settings_keys import CLOUD_KEYS
from tasks import catalogue, catalogue_files, marked_yaml, shapes
from tasks.contracts import Catalogue
from tasks.errors import CatalogueError
from tasks.shapes import S
from tasks.wording import nearest

CASES = Path(__file__).parent / "cases" / "catalogue"
BAD = sorted((CASES / "bad").glob("*.yaml"))
GOOD = sorted((CASES / "good").rglob("*.yaml"))
OTHER = """
hardware: any
bundle: []
example: {memory_mib: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a small catalogue that can be changed."""
    return shutil.copytree(CASES / "good", tmp_path / "profiles")


@functools.cache
def shipped() -> Catalogue:
    """Return the catalogue that is shipped, read once."""
    return catalogue.load()


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
    """Every profile and service of the recommendation guide is there, in the order of the names."""
    services = [
        "agent-zero",
        "archon",
        "chat",
        "deepresearch",
        "extract-worker",
        "hi-rag-v2",
        "pmoves-yt",
        "supaserch",
    ]

    assert {"cpu-only", "dual-gpu", "embedded", "jetson", "rtx-3090-ti", "rtx-4090", "rtx-5090"} <= set(
        shipped().profiles
    )
    assert services == list(shipped().services)
    for records in (shipped().models, shipped().profiles):
        assert sorted(records) == list(records)


def test_shipped_profiles_can_all_embed() -> None:
    """The last choice for embeddings is the model that needs no engine."""
    wishes = [wish for one in shipped().profiles.values() for wish in one.bundle]
    last = {wish.models[-1] for wish in wishes if wish.role == "embeddings"}
    embedded = {
        name
        for name, model in shipped().models.items()
        if any("embedded" in variant.runtimes for variant in model.variants)
    }

    assert {"all-minilm-l6-v2"} == last == embedded


def test_shipped_embedded_model_is_pinned() -> None:
    """The model that is served everywhere has weights, and a wheel that carries them."""
    model = shipped().models["all-minilm-l6-v2"]
    pinned = next(variant.weights for variant in model.variants if "embedded" in variant.runtimes)

    assert pinned is not None
    assert pinned.wheel is not None
    assert pinned.size_bytes == 612 + 466_247 + 90_868_376
    assert (model.dimensions, model.max_tokens) == (384, 256)


def test_shipped_memory_holds_the_weights() -> None:
    """No variant is said to need less memory than it has bytes."""
    for model in shipped().models.values():
        for variant in model.variants:
            if variant.memory:
                sizes = [variant.size_bytes(runtime) for runtime in variant.runtimes]
                assert min(sizes) < variant.memory.value_bytes, model.name


@pytest.mark.parametrize(
    ("name", "cards", "memory_mib"),
    [
        ("rtx-3090-ti", 1, 24564),
        ("rtx-4090", 1, 24564),
        ("rtx-5090", 1, 32607),
        ("dual-gpu", 2, 24564),
        ("dual-gpu", 1, 49140),
        ("h100", 1, 81559),
        ("h200", 1, 143771),
    ],
)
def test_shipped_profiles_take_the_cards_they_are_for(name: str, cards: int, memory_mib: int) -> None:
    """What the driver reports of a card is enough for its profile."""
    match = shipped().profiles[name].match
    card_bytes = memory_mib * 2**20

    assert match.min_cards <= cards
    assert match.min_card_memory_bytes <= card_bytes
    assert match.min_memory_bytes <= cards * card_bytes


@pytest.mark.parametrize(
    ("name", "gigabytes_per_s"),
    [
        ("NVIDIA GeForce RTX 3090", 936.2),
        ("NVIDIA GeForce RTX 3090 Ti", 1008),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 672),
        ("NVIDIA GeForce RTX 4080 SUPER", 736),
        ("NVIDIA GeForce RTX 4090 D", 1008),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 576),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 896),
        ("NVIDIA A10", 600),
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("NVIDIA A100-PCIE-40GB", 1555),
        ("NVIDIA L4", 300),
        ("NVIDIA L40S", 864),
        ("NVIDIA GB10", 273),
        ("Apple Mac Studio (M2 Ultra, 2023)", 800),
        ("AMD Instinct MI300X OAM", 5300),
    ],
)
def test_shipped_devices_are_told_apart(name: str, gigabytes_per_s: float) -> None:
    """Where names of several devices are a part of one, the longest has this device's figure."""
    found = [device for device in shipped().devices if device.name in name]
    longest = max(found, key=lambda device: len(device.name))

    assert round(gigabytes_per_s * 10**9) == longest.memory_bytes_per_s


@pytest.mark.parametrize("name", ["Orin (nvgpu)", "NVIDIA tegra234", "AMD GPU 1002:73df (gfx1031)"])
def test_shipped_devices_leave_out_what_a_name_does_not_tell(name: str) -> None:
    """A name that several devices with other figures have gives none."""
    assert [] == [device for device in shipped().devices if device.name in name]


def test_order_of_files_does_not_matter(tmp_path: Path) -> None:
    """Model files under other names, read in another order, give the same catalogue."""
    folder = shutil.copytree(catalogue.DEFAULT, tmp_path / "profiles")
    for number, path in enumerate(sorted((folder / "models").iterdir(), reverse=True)):
        path.rename(path.with_name(f"{number}.yaml"))

    again = catalogue.load(folder)

    assert shipped() == again
    assert list(shipped().models) == list(again.models) == sorted(again.models)


def test_anchors_are_allowed(folder: Path) -> None:
    """An anchor gives a value to a second place, and a merged mapping can be overridden."""
    profile(
        folder,
        "name: other\ntitle: &text Any host\nhardware: *text\n"
        "match: {<<: &size {min_cards: 1, min_memory_bytes: 2}, min_cards: 3}\n"
        "bundle: []\nexample: {memory_mib: 1}\n",
    )

    loaded = catalogue.load(folder).profiles["other"]

    assert (loaded.hardware, loaded.match.min_cards, loaded.match.min_memory_bytes) == ("Any host", 3, 2)


def test_text_that_looks_like_a_date_stays_text(folder: Path) -> None:
    """YAML's dates, sets and binaries do not exist here."""
    profile(folder, f"name: other\ntitle: 2026-01-01\nmatch: {{}}{OTHER}")

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


@pytest.mark.parametrize("kind", ["models", "hardware", "services"])
def test_no_folder_of_a_kind(folder: Path, kind: str) -> None:
    """A catalogue that lacks one of its folders is refused, not taken for one without entries."""
    shutil.rmtree(folder / kind)

    assert said(folder).startswith(f"{folder}/{kind}: the catalogue's folder cannot be read (")


@pytest.mark.parametrize("name", ["devices", "images", "routing"])
def test_no_file_of_a_kind(name: str, folder: Path) -> None:
    """A catalogue without its list of devices, of images or of clouds is refused."""
    (folder / f"{name}.yaml").unlink()

    assert said(folder).startswith(
        f"profiles/{name}.yaml: the file cannot be read (No such file or directory)"
    )


def test_shipped_clouds_are_those_whose_keys_are_read() -> None:
    """Providers and their variables are the same here and where the environment is read, in one order."""
    assert {one.name: one.key for one in shipped().routing.providers} == CLOUD_KEYS
    assert [one.name for one in shipped().routing.providers] == list(CLOUD_KEYS)


def test_shipped_functions_are_those_of_the_guide() -> None:
    """One for each service that chats, by which its clients ask."""
    functions = [
        use.function for service in shipped().services.values() for use in service.uses if use.function
    ]

    assert sorted(functions) == [
        "agent_zero",
        "archon",
        "archon_forms",
        "chat",
        "deepresearch",
        "hirag",
        "pmoves_yt_summarise",
        "supaserch",
        "supaserch_vision",
    ]
    assert all(
        use.max_tokens and use.temperature is not None
        for service in shipped().services.values()
        for use in service.uses
        if use.function
    )


def test_a_number_with_a_fraction_is_one(folder: Path) -> None:
    """Prices and temperatures have them; a release that looks like one is put in quotes."""
    routing = catalogue.load(folder).routing

    assert [one.input_usd_per_million for one in routing.models] == [0.5, 3.0]
    profile(folder, f"name: other\ntitle: 1.5\nmatch: {{}}{OTHER}")
    assert "title: must be text, not a number (put it in quotes)" in said(folder)


def test_other_ending(folder: Path) -> None:
    """A .yml file is refused, because it would be left out in silence."""
    profile(folder, "").rename(folder / "hardware" / "other.yml")

    assert said(folder).startswith("profiles/hardware/other.yml: a catalogue file ends in .yaml; ")


def test_an_editors_files_are_left_out(folder: Path) -> None:
    """Hidden files and backups are not read."""
    (folder / "hardware" / ".#known.yaml").write_text("}")
    (folder / "hardware" / "known.yaml~").write_text("}")

    assert list(catalogue.load(folder).profiles) == ["known"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return where a catalogue can be kept; its folder is not there yet."""
    return tmp_path / "state" / "catalogue.json"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are parsed from now on."""
    names: list[str] = []

    def decode(text: str, shape: type[S], *, name: str) -> tuple[S, marked_yaml.Document]:
        names.append(name)
        return shapes.decode(text, shape, name=name)

    monkeypatch.setattr(catalogue_files, "decode", decode)
    return names


def test_kept_catalogue_is_the_same(folder: Path, cache: Path, parsed: list[str]) -> None:
    """What was kept equals what was read, in the same order, and nothing is parsed for it."""
    first = catalogue.load_cached(folder, cache)
    parsed.clear()
    second = catalogue.load_cached(folder, cache)

    assert [] == parsed
    assert catalogue.load(folder) == first == second
    assert list(first.models) == list(second.models)
    assert [cache] == list(cache.parent.iterdir())


@pytest.mark.parametrize("path", GOOD, ids=lambda path: str(path.relative_to(CASES / "good")))
def test_change_of_a_byte_is_seen(path: Path, folder: Path, cache: Path) -> None:
    """A kept catalogue is not used once a profile file differs in a byte."""
    before = catalogue.load_cached(folder, cache)
    changed = folder / path.relative_to(CASES / "good")
    changed.write_text(changed.read_text().replace("made up", "made uq").replace("Known", "Knows"))
    after = catalogue.load_cached(folder, cache)

    assert before != after == catalogue.load(folder)


def test_renamed_file_is_seen(folder: Path, cache: Path) -> None:
    """A kept catalogue is not used once a file has another name."""
    catalogue.load_cached(folder, cache)
    (folder / "hardware" / "known.yaml").rename(folder / "hardware" / "knows.yaml")

    with pytest.raises(CatalogueError, match='must be "knows", as the file is called'):
        catalogue.load_cached(folder, cache)


def test_change_of_the_code_is_seen(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept catalogue is not used by code that reads the files differently."""
    catalogue.load_cached(folder, cache)
    before = cache.read_bytes()
    monkeypatch.setattr(catalogue, "_CODE", (*catalogue._CODE, "errors.py"))
    catalogue.load_cached(folder, cache)

    assert before.partition(b"\n")[2] == cache.read_bytes().partition(b"\n")[2]
    assert before != cache.read_bytes()


def test_code_that_decides_is_all_there() -> None:
    """A kept catalogue depends on all of the code that files are read with."""
    source = "".join(Path(one.__file__).read_text() for one in (catalogue, catalogue_files))
    imported = {f"{name}.py" for name in re.findall(r"^ *from tasks\.(\w+) import", source, re.MULTILINE)}

    assert {*imported, "catalogue.py"} - {"errors.py"} == set(catalogue._CODE)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_cache_does_not_matter(data: st.DataObject, folder: Path, cache: Path) -> None:
    """A kept catalogue with a byte changed, cut off or added gives the same catalogue, and is kept again."""
    want = catalogue.load_cached(folder, cache)
    good = cache.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    damage = data.draw(st.sampled_from(["change", "cut", "add"]))
    rest = {"change": good[place + 1 :], "cut": b"", "add": good[place:]}[damage]
    new = b"" if damage == "cut" else data.draw(st.binary(min_size=1, max_size=1))
    cache.write_bytes(good[:place] + new + rest)

    assert want == catalogue.load_cached(folder, cache)
    assert good == cache.read_bytes()


def test_empty_cache_does_not_matter(folder: Path, cache: Path) -> None:
    """A cache file without content is passed over."""
    cache.parent.mkdir()
    cache.write_bytes(b"")

    assert catalogue.load(folder) == catalogue.load_cached(folder, cache)


def test_cache_that_is_a_folder_does_not_matter(folder: Path, cache: Path) -> None:
    """A cache that can be neither read nor written is passed over, and nothing is left beside it."""
    (cache / "inside").mkdir(parents=True)

    assert catalogue.load(folder) == catalogue.load_cached(folder, cache)
    assert [cache] == list(cache.parent.iterdir())


def test_cache_folder_that_cannot_be_made_does_not_matter(folder: Path, cache: Path) -> None:
    """A place for the cache that cannot exist is passed over."""
    cache.parent.write_text("a file where the folder should be")

    assert catalogue.load(folder) == catalogue.load_cached(folder, cache)


def test_full_disk_does_not_matter(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be written for want of room or of rights is passed over."""

    def full(path: Path, _text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(catalogue, "write_atomic", full)

    assert catalogue.load(folder) == catalogue.load_cached(folder, cache)
    assert not cache.exists()


def test_wrong_file_is_not_hidden_by_the_cache(folder: Path, cache: Path) -> None:
    """A file that became wrong is refused although a right catalogue is kept."""
    catalogue.load_cached(folder, cache)
    profile(folder, "}")

    with pytest.raises(CatalogueError, match=r"profiles/hardware/other\.yaml:1:1: this is not YAML"):
        catalogue.load_cached(folder, cache)


def test_profile_names_are_not_parsed(folder: Path) -> None:
    """The names for a form come from the files' names alone."""
    profile(folder, "}")

    assert catalogue.profile_names(folder) == ("known", "other")


def test_shipped_profile_names_are_the_profiles() -> None:
    """The names that a form offers are those of the profiles that are read."""
    assert tuple(shipped().profiles) == catalogue.profile_names()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("rtx-4080", "rtx-4090"),
        ("RTX 5090", "rtx-5090"),
        ("rtx_3090_ti", "rtx-3090-ti"),
        ("jetsn", "jetson"),
        ("rtx-3090", "rtx-3090-ti"),
        ("jetson-th", "jetson-thor"),
        ("r", None),
        ("emdedded", "embedded"),
        ("m2-ultra", None),
        ("", None),
    ],
)
def test_nearest(name: str, near: str | None) -> None:
    """A misspelt name has a nearest one; a foreign one has none."""
    assert near == nearest(name, catalogue.profile_names())


def loads_or_explains(name: str, text: str) -> bool:
    """Put `text` in the place of a good file and load; anything but a CatalogueError goes through."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(CASES / "good", Path(temporary) / "profiles")
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
    """A good file with a key dropped, renamed or of another type loads or is explained."""
    path = data.draw(st.sampled_from(GOOD))
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
        str(path.relative_to(CASES / "good")), yaml.safe_dump(content, allow_unicode=True)
    )


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_change_of_the_text_ends_in_a_traceback(data: st.DataObject) -> None:
    """A good file with a piece of its text cut out and another put in loads or is explained."""
    path = data.draw(st.sampled_from(GOOD))
    text = path.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    piece = data.draw(st.text("[]{}:,-#&*!|>'\"%@`?<=~ \n\tab01", max_size=6))

    assert loads_or_explains(str(path.relative_to(CASES / "good")), text[:start] + piece + text[end:])
