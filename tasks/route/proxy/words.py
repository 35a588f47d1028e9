"""What TensorZero calls itself in its answers → function and variant. Pure.

    {"…": …, "model": "tensorzero::function_name::chat::variant_name::local"}        a function
    {"…": …, "model": "tensorzero::model_name::qwen2.5-7b-instruct"}                 a model, asked by its
    name {"…": …, "model": "tensorzero::embedding_model_name::all-minilm-l6-v2"}          the same

Observed with the wheel of 2026.6.0; a quotation mark in the text of an answer is escaped, so no text can look
so.
"""

from __future__ import annotations

MARK = '"model":"tensorzero::'
FUNCTION, VARIANT = "function_name::", "::variant_name::"


def function_and_variant(word: str) -> tuple[str, str]:
    """Split what follows MARK; a model that was asked by its name has no variant."""
    kind, _, name = word.partition("::")
    if f"{kind}::" != FUNCTION:
        return name, ""
    function, _, variant = name.partition(VARIANT)
    return function, variant
