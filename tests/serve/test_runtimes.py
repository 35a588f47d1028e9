"""What each runtime wants of its container, and how its models are loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.contracts import PlannedModel
from tasks.effects.http import HttpError, MemoryHttp, Reply, Request
from tasks.errors import ServeError
from tasks.serve import apply, inside
from tasks.serve.runtimes import CONTAINERS, Container, llama_cpp, ollama, speaches, tei, vllm
from tasks.serve.wanted import Places
from tests.serve.serving import Lab, image, model, pulled, server_of, weights

PLACES = Places(Path("/store"), Path("/ollama"), Path("/state"))
SNAPSHOT = f"/weights/models--maker--qwen/snapshots/{'a' * 40}"
OLLAMA_NAME = re.compile(r"\w[\w-]{0,79}/\w[\w.-]{0,79}:\w[\w.-]{0,79}", re.ASCII)
URL = "http://127.0.0.1:1"


def flags(runtime: Container, planned: PlannedModel, *settings: tuple[str, str]) -> tuple[str, ...]:
    """Return the arguments of a server of one model."""
    return runtime.wanted(server_of(planned, settings=settings), (planned,), PLACES).arguments


def value(arguments: tuple[str, ...], flag: str) -> str:
    """Return what follows a flag."""
    return arguments[arguments.index(flag) + 1]


@pytest.mark.parametrize("runtime", [llama_cpp, tei, vllm, speaches, ollama], ids=lambda one: one.name)
def test_equal_plans_give_equal_wants(runtime: Container) -> None:
    """And none of them names this run."""
    planned = model(runtime=runtime.name)

    assert len({repr(runtime.wanted(server_of(planned), (planned,), PLACES)) for _ in range(2)}) == 1


@pytest.mark.parametrize("runtime", [tei, vllm, speaches], ids=lambda one: one.name)
def test_nothing_is_downloaded_by_a_server(runtime: Container) -> None:
    """Weights are there before it is, pinned."""
    planned = model(runtime=runtime.name)
    environment = dict(runtime.wanted(server_of(planned), (planned,), PLACES).environment)

    assert "1" == environment["HF_HUB_OFFLINE"]


@pytest.mark.parametrize("runtime", [llama_cpp, tei, vllm], ids=lambda one: one.name)
def test_a_server_of_one_model(runtime: Container) -> None:
    """It listens for the engine, on the image's port, under the model's name; its settings come last."""
    planned = model(runtime=runtime.name, files=("model.gguf", "config.json"))
    found = flags(runtime, planned, ("--a-flag", "7"), ("--alone", ""), ("CUDA_VISIBLE_DEVICES", "GPU-1"))
    name = {"llama.cpp": "--alias"}.get(runtime.name, "--served-model-name")

    assert "qwen" == value(found, name)
    assert "8080" == value(found, "--port")
    assert "0.0.0.0" in found  # inside the container
    assert ("--a-flag", "7", "--alone") == found[-3:]
    assert "CUDA_VISIBLE_DEVICES" not in found
    made = runtime.wanted(
        server_of(planned, settings=(("CUDA_VISIBLE_DEVICES", "GPU-1"),)), (planned,), PLACES
    )
    assert ("CUDA_VISIBLE_DEVICES", "GPU-1") in made.environment
    assert ["/store/models--maker--qwen"] == [one.source for one in made.mounts]


@pytest.mark.parametrize("runtime", [llama_cpp, tei, vllm], ids=lambda one: one.name)
def test_two_models_on_a_server_of_one_are_refused(runtime: Container) -> None:
    """The planner gives them two servers."""
    models = [model(name, runtime=runtime.name, server="one") for name in ("one", "two")]

    with pytest.raises(ServeError, match="holds one model, and the plan gives it one, two"):
        runtime.wanted(server_of(*models), models, PLACES)


@pytest.mark.parametrize("runtime", [llama_cpp, tei, vllm, speaches], ids=lambda one: one.name)
def test_a_model_without_pinned_files_is_refused(runtime: Container) -> None:
    """And how to pin it."""
    planned = replace(model(runtime=runtime.name), weights=None)

    with pytest.raises(ServeError, match="has no pinned files") as raised:
        runtime.wanted(server_of(planned), (planned,), PLACES)

    assert "pmoves lock" in raised.value.then


# --- llama.cpp -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "chosen", "projector"),
    [
        (("model.gguf",), "model.gguf", ""),
        (("m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "README.md"), "m-00001-of-00002.gguf", ""),
        (("q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"), "q4/m-00001-of-00002.gguf", ""),
        (("mmproj-F16.gguf", "z.gguf"), "z.gguf", "mmproj-F16.gguf"),
        (("a-MMProj.gguf", "model.gguf"), "model.gguf", "a-MMProj.gguf"),
    ],
    ids=["one", "cut", "cut in a folder", "with a projector", "a projector that comes first"],
)
def test_which_file_is_opened(files: tuple[str, ...], chosen: str, projector: str) -> None:
    """The first of a model that is cut; a projector is none."""
    found = flags(llama_cpp, model(files=files))

    assert f"{SNAPSHOT}/{chosen}" == value(found, "--model")
    assert ("--mmproj" in found) == bool(projector)
    if projector:
        assert f"{SNAPSHOT}/{projector}" == value(found, "--mmproj")


@pytest.mark.parametrize("files", [("model.safetensors",), ("mmproj.gguf",)])
def test_without_a_gguf_file_it_is_refused(files: tuple[str, ...]) -> None:
    """With the repository."""
    with pytest.raises(ServeError, match=r"no GGUF file among its pinned files \(maker/qwen\)"):
        flags(llama_cpp, model(files=files))


# --- text-embeddings-inference, vLLM -------------------------------------------------------------


def test_switches_of_tei_are_variables() -> None:
    """Releases differ in whether the flag takes a value."""
    planned = model(runtime="tei")
    settings = (("--auto-truncate", "false"), ("--dtype", "float16"))
    made = tei.wanted(server_of(planned, settings=settings), (planned,), PLACES)

    assert ("AUTO_TRUNCATE", "false") in made.environment
    assert "--auto-truncate" not in made.arguments
    assert "float16" == value(made.arguments, "--dtype")
    assert SNAPSHOT == value(made.arguments, "--model-id")


def test_vllm_has_shared_memory_and_says_nothing_home() -> None:
    """Its workers pass tensors through it."""
    planned = model(runtime="vllm")
    made = vllm.wanted(server_of(planned), (planned,), PLACES)

    assert 1 << 30 == made.shm_bytes
    assert {("DO_NOT_TRACK", "1"), ("VLLM_NO_USAGE_STATS", "1")} <= set(made.environment)


# --- speaches ------------------------------------------------------------------------------------


def test_speaches_is_shown_a_small_cache(lab: Lab) -> None:
    """A card, a ref, and links to pinned files, which lead to the mounts; of every model."""
    models = [
        lab.model(
            name, runtime="speaches", server="speaches-cpu", files=("model.bin", "README.md", "sub/v.json")
        )
        for name in ("tiny", "large")
    ]
    lab.bring_up(*models)
    hub = lab.places.state / "hubs" / "speaches-cpu"
    made = lab.engine.spec_of("pmoves-speaches-cpu")

    for name in ("tiny", "large"):
        repo = hub / f"models--maker--{name}"
        snapshot = repo / "snapshots" / ("a" * 40)
        there = f"/weights/models--maker--{name}/snapshots/{'a' * 40}"
        assert "a" * 40 == (repo / "refs" / "main").read_text()
        assert f"{there}/model.bin" == str((snapshot / "model.bin").readlink())
        assert f"{there}/sub/v.json" == str((snapshot / "sub" / "v.json").readlink())
        assert not (snapshot / "README.md").is_symlink()
        assert "library_name: ctranslate2" in (snapshot / "README.md").read_text()
    assert made is not None
    assert {"/weights/models--maker--tiny", "/weights/models--maker--large", "/hub"} == {
        one.target for one in made.mounts if one.read_only
    }


def test_files_that_are_right_are_left_alone(lab: Lab) -> None:
    """A kept server reads them while the next run looks."""
    planned = lab.model(runtime="speaches")
    lab.bring_up(planned)
    hub = lab.places.state / "hubs" / planned.server
    before = {path: path.lstat().st_ino for path in hub.rglob("*")}

    lab.bring_up(planned)

    assert before == {path: path.lstat().st_ino for path in hub.rglob("*")}


def test_files_that_are_wrong_are_mended(lab: Lab) -> None:
    """A link that leads elsewhere, a link in place of a file, another text."""
    planned = lab.model(runtime="speaches")
    lab.bring_up(planned)
    repo = lab.places.state / "hubs" / planned.server / "models--maker--qwen"
    link, ref = repo / "snapshots" / ("a" * 40) / "model.gguf", repo / "refs" / "main"
    link.unlink()
    link.symlink_to("/etc/passwd")
    ref.write_text("b" * 40)

    lab.bring_up(planned)

    assert str(link.readlink()).startswith("/weights/")
    assert "a" * 40 == ref.read_text()


@pytest.mark.parametrize("status", [200, 201, 409])
def test_speaches_loads_a_model_once(status: int) -> None:
    """One that is there already is no error."""
    http = MemoryHttp(lambda _request: Reply(status, b"", 0.0))

    speaches.load(URL, pulled(model(runtime="speaches")), http, timeout_s=1)

    assert [f"{URL}/api/ps/maker/qwen"] == [one.url for one in http.requests]


def test_speaches_does_not_know_a_model(lab: Lab) -> None:
    """Its own words are in the sentence."""
    planned = lab.model(runtime="speaches", server="speaches-cpu")
    said = b'{"detail":"Model maker/qwen is not installed locally"}'
    lab.answers["speaches-cpu"] = lambda one: Reply(200 if one.method == "GET" else 404, said, 0.0)

    with pytest.raises(
        ServeError, match=r"speaches-cpu does not load qwen \(HTTP 404: .*is not installed locally"
    ):
        apply.serve(pulled(planned), lab.run(planned))


# --- Ollama --------------------------------------------------------------------------------------


def test_ollamas_container() -> None:
    """Its folder is written; one server must not delete what another pulls; nothing overrides that."""
    planned = model(runtime="ollama")
    settings = (("OLLAMA_KEEP_ALIVE", "-1"), ("OLLAMA_NOPRUNE", "0"), ("OLLAMA_HOST", "else"))
    made = ollama.wanted(server_of(planned, settings=settings), (planned,), PLACES)
    environment = dict(made.environment)

    assert ("1", "0.0.0.0:8080", "-1") == (
        environment["OLLAMA_NOPRUNE"],
        environment["OLLAMA_HOST"],
        environment["OLLAMA_KEEP_ALIVE"],
    )
    assert "/models" == environment["OLLAMA_MODELS"]
    assert ["/ollama"] == [one.source for one in made.mounts if not one.read_only]
    assert "/ollama" == made.writes
    assert ollama.pulls_itself


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((("num_ctx", "8192"), ("num_gpu", "999")), {"num_ctx": 8192, "num_gpu": 999}),
        ((("num_ctx", "0"), ("num_gpu", "0")), {"num_gpu": 0}),
        ((), {}),
    ],
)
def test_parameters(settings: tuple[tuple[str, str], ...], expected: dict[str, int]) -> None:
    """A context of 0 says nothing; 0 layers on the card says something."""
    assert expected == ollama.parameters(model(runtime="ollama", settings=settings))


@pytest.mark.parametrize(
    ("name", "quantisation", "context"),
    [
        ("qwen2.5-32b", "q4_k_m", "8192"),
        ("qwen2.5-32b", "", "8192"),
        ("maker/qwen", "Q4 K·M", "0"),
        ("-odd", ".", "1"),
        ("x" * 200, "y" * 200, "1"),
        ("größe", "é", "1"),
    ],
)
def test_names_are_names_for_ollama(name: str, quantisation: str, context: str) -> None:
    """At most 80 of ASCII's letters, digits, "_", "-" and "." in each part, none of the latter two first."""
    settings = (("num_ctx", context), ("num_gpu", "999"))
    planned = model(name, runtime="ollama", quantisation=quantisation, settings=settings)

    assert OLLAMA_NAME.fullmatch(ollama.asked_as(pulled(planned)))


def test_without_parameters_the_tag_itself_is_served() -> None:
    """There is nothing to make."""
    assert "qwen:7b" == ollama.asked_as(pulled(model(runtime="ollama")))


class Ollama:
    """Plays the server: what it was asked, and what it has."""

    def __init__(self, *, parameters: str = "", parent: str = "qwen:7b", refuse: str = "") -> None:
        self.parameters, self.parent, self.refuse = parameters, parent, refuse
        self.http = MemoryHttp(self.answer)

    def answer(self, request: Request) -> Reply:
        """Answer as it does."""
        path = request.url.removeprefix(URL)
        if path == self.refuse:
            return Reply(500, b'{"error":"llama runner process has terminated"}', 0.0)
        if path != "/api/show":
            return Reply(200, b'{"status":"success"}', 0.0)
        if not self.parameters:
            return Reply(404, b'{"error":"model not found"}', 0.0)
        said = f'{{"parameters":"{self.parameters}","details":{{"parent_model":"{self.parent}"}}}}'
        return Reply(200, said.encode(), 0.0)

    def asked(self) -> list[str]:
        """Return the paths that were asked for."""
        return [one.url.removeprefix(f"{URL}/api/") for one in self.http.requests]


SETTINGS = (("num_ctx", "8192"), ("num_gpu", "999"))
MADE = "num_ctx                        8192\\nnum_gpu                        999"


def asked(planned: PlannedModel, there: Ollama, kind: str = "keep") -> list[str]:
    """Load a model, and return what Ollama was asked."""
    ollama.load(URL, pulled(planned, kind), there.http, timeout_s=1)
    return there.asked()


def test_a_model_is_made_and_loaded() -> None:
    """With its parameters, from the tag that was pulled, to stay."""
    there = Ollama()

    assert ["show", "create", "generate"] == asked(model(runtime="ollama", settings=SETTINGS), there)
    _, create, generate = (one.json for one in there.http.requests)
    assert {
        "model": "pmoves/qwen:q4_k_m-8192",
        "from": "qwen:7b",
        "parameters": {"num_ctx": 8192, "num_gpu": 999},
        "stream": False,
    } == create
    assert {"model": "pmoves/qwen:q4_k_m-8192", "stream": False, "keep_alive": -1} == generate


@pytest.mark.parametrize(
    ("there", "made"),
    [
        (Ollama(parameters=MADE), False),
        (Ollama(parameters=MADE, parent=""), False),
        (Ollama(parameters=MADE, parent="qwen:14b"), True),
        (Ollama(parameters=MADE.replace("8192", "4096")), True),
        (Ollama(parameters="num_ctx 8192"), True),
    ],
    ids=["the same", "an Ollama that tells no parent", "another tag", "another context", "a parameter less"],
)
def test_it_is_made_again_only_when_it_is_another(there: Ollama, *, made: bool) -> None:
    """Its blobs are those of the tag, so little is written."""
    assert made == ("create" in asked(model(runtime="ollama", settings=SETTINGS), there))


def test_a_tag_that_was_pulled_again_is_made_again_and_read_again() -> None:
    """A runner keeps what it read, and here that was damaged or is old."""
    there = Ollama(parameters=MADE)

    assert ["create", "generate", "generate"] == asked(
        model(runtime="ollama", settings=SETTINGS), there, "replace"
    )
    assert [0, -1] == [one.json["keep_alive"] for one in there.http.requests[1:]]  # type: ignore[index]


def test_embeddings_are_loaded_by_embedding() -> None:
    """A model that only embeds does not generate."""
    there = Ollama(parameters=MADE)

    assert ["show", "embed"] == asked(model(runtime="ollama", settings=SETTINGS, role="embeddings"), there)
    assert {"model": "pmoves/qwen:q4_k_m-8192", "input": "", "keep_alive": -1} == there.http.requests[-1].json


def test_what_takes_turns_is_not_loaded() -> None:
    """It would push out the one whose turn it is."""
    there = Ollama(parameters=MADE)

    assert ["show"] == asked(model(runtime="ollama", settings=SETTINGS, residency="on-demand"), there)


def test_anothers_ollama_is_not_told_how_long() -> None:
    """Nor to unload anything."""
    planned = model(runtime="ollama", settings=SETTINGS[:1], external=URL)
    there = Ollama(parameters=MADE)

    assert ["create", "generate"] == asked(planned, there, "replace")
    assert {"model": "pmoves/qwen:q4_k_m-8192", "stream": False} == there.http.requests[-1].json


@pytest.mark.parametrize("path", ["/api/create", "/api/generate"])
def test_what_ollama_says_is_in_the_error(path: str) -> None:
    """Its own words."""
    with pytest.raises(HttpError, match="llama runner process has terminated"):
        asked(model(runtime="ollama", settings=SETTINGS), Ollama(refuse=path))


def test_an_error_in_an_answer_of_200_is_one() -> None:
    """Streams end so."""
    http = MemoryHttp(lambda _request: Reply(200, b'{"error":"no space left"}', 0.0))

    with pytest.raises(HttpError, match="no space left"):
        ollama.load(URL, pulled(model(runtime="ollama")), http, timeout_s=1)


# --- all -----------------------------------------------------------------------------------------


def test_every_runtime_is_told_by_its_name() -> None:
    """And no two have one."""
    assert len(CONTAINERS) == len({one.name for one in CONTAINERS})


def test_paths_inside() -> None:
    """Weights of one repository are mounted once."""
    models = [model("one"), model("two"), replace(model("three"), weights=weights("b", repo="maker/one"))]

    assert ["/store/models--maker--one", "/store/models--maker--two"] == [
        one.source for one in inside.weights_mounts(models, Path("/store"))
    ]
    assert ("--a", "1", "--b") == inside.arguments((("--a", "1"), ("X", "2"), ("--b", "")))
    assert (("X", "2"),) == inside.environment((("--a", "1"), ("X", "2"), ("--b", "")))


def test_the_port_is_the_images() -> None:
    """What the engine publishes is what the server listens on."""
    planned = model()
    made = llama_cpp.wanted(server_of(planned, image=image(port=9999)), (planned,), PLACES)

    assert "9999" == value(made.arguments, "--port")
