"""A tiny GGUF file that the real llama.cpp loads: Llama's architecture with weights by chance.

The layout is https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The weights are the same every time,
know nothing, and so answer gibberish: what such a server says with a 200 must never pass for health.
"""

from __future__ import annotations

import array
import random
import struct
import sys
from pathlib import Path

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
F32 = 0
ALIGNMENT = 32
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
WIDTH, LAYERS, HEADS, KV_HEADS, INNER, CONTEXT = 64, 2, 4, 2, 128, 2048
PIECES = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "a",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "from",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
    "but",
    "what",
    "all",
    "were",
    "when",
    "we",
    "there",
    "can",
    "an",
    "your",
    "which",
    "their",
    "said",
    "if",
    "do",
    "will",
    "each",
    "about",
    "how",
    "up",
    "out",
    "them",
    "then",
    "she",
    "many",
    "some",
]
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '\\n' }}{% endfor %}"
    "{{ '<|assistant|>\\n' }}"
)


def write(path: Path, *, seed: int = 1, pooling: int = 0) -> Path:
    """Write the file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model(seed, pooling))
    return path


def model(seed: int = 1, pooling: int = 0) -> bytes:
    """Return the bytes of the file, half a megabyte.

    Args:
        seed: Another one is another model.
        pooling: How an embedding model sums up its tokens (1 by their mean, 3 by the last); 0 for none: it
        chats.
    """
    words = _vocabulary()
    rows = [*_keys(words), *([("llama.pooling_type", UINT32, pooling)] if pooling else [])]
    keys = b"".join(_key(name, kind, value) for name, kind, value in rows)
    tensors = _tensors(len(words))
    infos, data, offset = [], [], 0
    source = random.Random(seed)  # noqa: S311  # no secret
    for name, shape in tensors:
        raw = _numbers(name, shape, source)
        infos.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, F32, offset))
        data.append(raw + bytes(-len(raw) % ALIGNMENT))
        offset += len(data[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(rows)) + keys + b"".join(infos)
    return head + bytes(-len(head) % ALIGNMENT) + b"".join(data)


def _vocabulary() -> list[tuple[str, float, int]]:
    """Return the pieces of text, each with its score and kind: control tokens, bytes, words."""
    special = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    raw = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    whole = ["\N{LOWER ONE EIGHTH BLOCK}", *(chr(code) for code in range(33, 127))]
    whole += [f"\N{LOWER ONE EIGHTH BLOCK}{word}" for word in PIECES]
    return [*special, *raw, *((text, -float(place), NORMAL) for place, text in enumerate(whole))]


def _keys(words: list[tuple[str, float, int]]) -> list[tuple[str, int, object]]:
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "a tiny model that knows nothing"),
        ("general.file_type", UINT32, 0),
        ("llama.block_count", UINT32, LAYERS),
        ("llama.context_length", UINT32, CONTEXT),
        ("llama.embedding_length", UINT32, WIDTH),
        ("llama.feed_forward_length", UINT32, INNER),
        ("llama.attention.head_count", UINT32, HEADS),
        ("llama.attention.head_count_kv", UINT32, KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        ("llama.rope.dimension_count", UINT32, WIDTH // HEADS),
        ("llama.vocab_size", UINT32, len(words)),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", STRING, [word for word, _, _ in words]),
        ("tokenizer.ggml.scores", FLOAT32, [score for _, score, _ in words]),
        ("tokenizer.ggml.token_type", INT32, [kind for _, _, kind in words]),
        ("tokenizer.ggml.unknown_token_id", UINT32, 0),
        ("tokenizer.ggml.bos_token_id", UINT32, 1),
        ("tokenizer.ggml.eos_token_id", UINT32, 2),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.chat_template", STRING, TEMPLATE),
    ]


def _tensors(words: int) -> list[tuple[str, tuple[int, ...]]]:
    kv_width = WIDTH // HEADS * KV_HEADS
    block: dict[str, tuple[int, ...]] = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, kv_width),
        "attn_v": (WIDTH, kv_width),
        "attn_output": (WIDTH, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (WIDTH, INNER),
        "ffn_up": (WIDTH, INNER),
        "ffn_down": (INNER, WIDTH),
    }
    blocks = [(f"blk.{at}.{name}.weight", shape) for at in range(LAYERS) for name, shape in block.items()]
    ends: list[tuple[str, tuple[int, ...]]] = [
        ("output_norm.weight", (WIDTH,)),
        ("output.weight", (WIDTH, words)),
    ]
    return [("token_embd.weight", (WIDTH, words)), *blocks, *ends]


def _numbers(name: str, shape: tuple[int, ...], source: random.Random) -> bytes:
    count = 1
    for side in shape:
        count *= side
    values = array.array(
        "f", [1.0] * count if "norm" in name else [source.gauss(0, 0.3) for _ in range(count)]
    )
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _key(name: str, kind: int, value: object) -> bytes:
    if isinstance(value, list):
        body = b"".join(_value(kind, one) for one in value)
        return _text(name) + struct.pack("<IIQ", ARRAY, kind, len(value)) + body
    return _text(name) + struct.pack("<I", kind) + _value(kind, value)


def _value(kind: int, value: object) -> bytes:
    if kind == STRING:
        return _text(str(value))
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
