"""Questions are data: a wrong file is one sentence, and a model gets the questions that are nearest to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks import catalogue
from tasks.errors import CatalogueError
from tasks.verify.probe_files import DEFAULT, load, questions
from tests.conftest import planned

SHELF = catalogue.load(catalogue.DEFAULT)
RERANKER = (DEFAULT / "reranker.yaml").read_text()


def folder(tmp_path: Path, **files: str) -> Path:
    """Return a folder of questions."""
    made = tmp_path / "profiles" / "probes"
    made.mkdir(parents=True)
    for name, text in files.items():
        (made / f"{name}.yaml").write_text(text)
    return made


def model_of(role: str, probes: Path, model: str) -> tuple[str, ...] | None:
    """Return for which models the questions are that a model gets."""
    ((_, found),) = questions(replace(planned(), role=role, model=model), load(probes))
    return found.models if found else None


def test_every_model_of_the_catalogue_has_questions() -> None:
    """For each role that it can play."""
    base = planned()
    for model in SHELF.models.values():
        if model.roles:
            plan = replace(base, role=model.roles[0], model=model.name, also=model.roles[1:])

            assert all(probes for _, probes in questions(plan, load(DEFAULT)))


def test_every_pattern_is_for_a_model_of_the_catalogue() -> None:
    """A pattern that matches nothing is a slip."""
    for probes in load(DEFAULT):
        for pattern in probes.models:
            names = [one.name for one in SHELF.models.values() if probes.role in one.roles]

            assert any(Path(name).match(pattern) for name in names), pattern


def test_the_nearest_file_is_taken(tmp_path: Path) -> None:
    """The name itself before a pattern, a longer pattern before a shorter, and the general file last."""
    probes = folder(
        tmp_path,
        a=RERANKER,
        b=f'models: ["q*"]\n{RERANKER}',
        c=f'models: ["q3-*"]\n{RERANKER}',
        d=f"models: [q3-4]\n{RERANKER}",
    )

    assert ((), ("q*",), ("q3-*",), ("q3-4",)) == tuple(
        model_of("reranker", probes, name) for name in ("bge", "q2", "q3-8", "q3-4")
    )
    assert model_of("llm", probes, "q2") is None


def test_a_model_with_several_roles_reads_one_long_text() -> None:
    """It has one context, whatever it is for."""
    other = replace(planned(), role="llm", model="qwen3-8b", also=("code",))
    ((_, first), (_, second)) = questions(other, load(DEFAULT))
    plan = replace(other, model="qwen3.6-27b", also=("code", "vision"))
    found = [probes for _, probes in questions(plan, load(DEFAULT)) if probes]

    assert first
    assert second
    assert (True, False) == (first.context is not None, second.context is not None)
    assert [True, False, False] == [one.context is not None for one in found]
    assert [("llm", True), ("code", True), ("vision", True)] == [
        (one.role, bool(one.chat or one.code or one.vision)) for one in found
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("role: reranker", "role: rerank"), 'role: "rerank" is not one of'),
        (("right: 2", "right: 5"), "reranker.searches[0].right: there are only documents 0 to 4"),
        (("right: 2", "right: two"), "reranker.searches[0].right: must be a whole number"),
        (("margin_percent: 20", "margin_percent: 0.2"), "must be a whole number"),
        (("margin_percent", "margin"), "there is no such field"),
        ((RERANKER[RERANKER.index("reranker:\n") :], ""), "role: there is no question"),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """With file, line and field."""
    with pytest.raises(CatalogueError) as caught:
        load(folder(tmp_path, reranker=RERANKER.replace(*change, 1)))

    assert caught.value.what.startswith("profiles/probes/reranker.yaml:")
    assert said in caught.value.what


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("llm", ("accepts: '(", "accepts: '(("), "chat.questions[0].accepts: this is not a pattern"),
        ("vision", ('rgb: "d02020"', 'rgb: "red"'), "vision.colours[0].rgb: a colour has six hex digits"),
        (
            "vision",
            ('accepts: "river"', 'accepts: "(river"'),
            "vision.words[0].accepts: this is not a pattern",
        ),
        ("whisper", ("speech-en.wav", "speech.wav"), "whisper.recording: there is no file assets/speech.wav"),
        ("whisper", ("speech-en.wav", "../whisper.yaml"), "whisper.recording: there is no file"),
    ],
)
def test_what_a_shape_cannot_say(tmp_path: Path, file: str, change: tuple[str, str], said: str) -> None:
    """Patterns, colours and files are looked at before anything is asked."""
    text = (DEFAULT / f"{file}.yaml").read_text()
    made = folder(tmp_path, **{file: text.replace(*change, 1)})
    (made / "assets").mkdir()
    with pytest.raises(CatalogueError) as caught:
        load(made)

    assert said in caught.value.what


def test_two_files_for_the_same_models_are_a_slip(tmp_path: Path) -> None:
    """Which one is meant nobody could tell."""
    with pytest.raises(
        CatalogueError, match=r"a\.yaml has the questions for the reranker of every model already"
    ):
        load(folder(tmp_path, a=RERANKER, b=RERANKER))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It came with the program, so it is to be restored."""
    with pytest.raises(CatalogueError, match="restore the folder"):
        load(tmp_path / "none")
