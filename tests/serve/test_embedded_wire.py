"""JSON in, JSON out, refusals."""

from __future__ import annotations

import base64
import json
import struct
from array import array

import pytest

from tasks.serve.embedded.wire import Question, Refusal, Served, read, render, render_error

SERVED = Served("mini", 3, max_texts=4)


def refused(body: object) -> Refusal:
    """Return the refusal of a body; bytes are sent as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refusal) as caught:
        read(raw, SERVED)
    return caught.value


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ({"input": "a"}, Question(("a",), as_base64=False, truncate=False)),
        ({"input": ["a", "b"]}, Question(("a", "b"), as_base64=False, truncate=False)),
        ({"input": "a", "encoding_format": "base64"}, Question(("a",), as_base64=True, truncate=False)),
        ({"input": "a", "truncate": True}, Question(("a",), as_base64=False, truncate=True)),
        (
            {"input": "a", "dimensions": 3, "user": "u", "x": 1},
            Question(("a",), as_base64=False, truncate=False),
        ),
        ({"input": " ", "dimensions": None, "encoding_format": None}, Question((" ",), False, False)),  # noqa: FBT003
    ],
)
def test_read(body: dict[str, object], want: Question) -> None:
    """What OpenAI's clients send is understood; fields that do not matter here are let through."""
    assert want == read(json.dumps({"model": "mini", **body}).encode(), SERVED)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "input is missing; send a text or a list of texts"),
        ({"input": None}, "input is missing; send a text or a list of texts"),
        ({"input": ""}, "text 0 of input is empty; leave it out"),
        ({"input": []}, "input is an empty list; send at least one text"),
        ({"input": ["a", ""]}, "text 1 of input is empty; leave it out"),
        ({"input": ["a", None]}, "text 1 of input is null, not a text"),
        ({"input": [1, 2]}, "input holds token numbers; this server takes texts only"),
        ({"input": [[1, 2]]}, "input holds token numbers; this server takes texts only"),
        ({"input": {"a": 1}}, "input must be a text or a list of texts, not an object"),
        ({"input": ["a"] * 5}, "input has 5 texts and the limit is 4 a request; send fewer at a time"),
        ({"input": "a", "dimensions": 2}, "mini has 3 dimensions, it cannot give 2"),
        ({"input": "a", "dimensions": True}, "mini has 3 dimensions, it cannot give true"),
        (
            {"input": "a", "encoding_format": "int8"},
            'encoding_format must be "float" or "base64", not "int8"',
        ),
        ({"input": "a", "truncate": "yes"}, 'truncate must be true or false, not "yes"'),
    ],
)
def test_a_wrong_request_gets_a_sentence(body: dict[str, object], message: str) -> None:
    """Each mistake is named, with status 400."""
    refusal = refused({"model": "mini", **body})

    assert (400, message) == (refusal.status, refusal.message)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"input": "\\ud800"}', b"[" * 5000])
def test_not_json(raw: bytes) -> None:
    """A body that is not JSON is refused as such."""
    assert refused(raw).message.startswith("the body is not valid JSON")


@pytest.mark.parametrize(("raw", "kind"), [(b"[]", "a list"), (b"1", "a number"), (b"null", "null")])
def test_not_an_object(raw: bytes, kind: str) -> None:
    """JSON that is no object is refused as such."""
    assert f"the body must be a JSON object, not {kind}" == refused(raw).message


def test_another_model_is_not_found() -> None:
    """The refusal names the right model."""
    refusal = refused({"model": "maxi", "input": "a"})

    assert 404 == refusal.status
    assert 'model "maxi" is not served here, "mini" is' == refusal.message


def test_base64_holds_the_same_numbers() -> None:
    """Base64 is the little-endian float32 of the numbers in the float answer, texts in their order."""
    vectors = [array("f", (0.1, -2.5, 3e-8)), array("f", (1, 2, 3))]
    question = Question(("a", "b"), as_base64=False, truncate=False)

    floats = json.loads(render(question, vectors, 7, "mini"))
    packed = json.loads(render(Question(("a", "b"), as_base64=True, truncate=False), vectors, 7, "mini"))

    assert [0, 1] == [row["index"] for row in floats["data"]]
    assert {"prompt_tokens": 7, "total_tokens": 7} == floats["usage"] == packed["usage"]
    for one, other in zip(floats["data"], packed["data"], strict=True):
        assert one["embedding"] == list(struct.unpack("<3f", base64.b64decode(other["embedding"])))


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (503, "server_error")])
def test_errors_have_the_shape_of_openai(status: int, kind: str) -> None:
    """OpenAI's clients find message, type and code."""
    error = json.loads(render_error(status, "code", "it is so"))["error"]

    assert {"message": "it is so.", "type": kind, "param": None, "code": "code"} == error
