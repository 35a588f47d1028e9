"""Small functions that coding models are asked for."""

from __future__ import annotations

import re

CODE = (
    ("prime", "is_prime", "n", "return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))"),
    (
        "fibonacci",
        "fibonacci",
        "n",
        "a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
    ),
    (
        "factorial",
        "factorial",
        "n",
        "result = 1\n    for i in range(2, n + 1):\n        result *= i\n    return result",
    ),
    (
        "palindrome",
        "is_palindrome",
        "text",
        'letters = "".join(c.lower() for c in text if c.isalnum())\n    return letters == letters[::-1]',
    ),
    (
        r"\bruns\b",
        "runs",
        "numbers",
        "from itertools import groupby\n    return [[n, len(list(same))] for n, same in groupby(numbers)]",
    ),
    ("vowel", "count_vowels", "text", 'return sum(c in "aeiou" for c in text.lower())'),
    (
        "fizzbuzz",
        "fizzbuzz",
        "n",
        'return [("Fizz" * (i % 3 == 0) + "Buzz" * (i % 5 == 0)) or str(i) for i in range(1, n + 1)]',
    ),
    ("greatest common|gcd", "gcd", "a, b", "while b:\n        a, b = b, a % b\n    return a"),
    ("revers", "reverse", "text", "return text[::-1]"),
    ("even", "is_even", "n", "return n % 2 == 0"),
    ("largest|maximum", "largest", "numbers", "return max(numbers)"),
    ("sum|total", "total", "numbers", "return sum(numbers)"),
    ("square", "square", "n", "return n * n"),
    (r"\badd", "add", "a, b", "return a + b"),
    ("double|twice", "double", "n", "return 2 * n"),
)


def code(question: str, _text: str) -> str:
    """Return a block with the function that a question asks for, "" where it asks for none that is known."""
    if not re.search(r"\b(function|python|def|code|method)\b", question, re.IGNORECASE):
        return ""
    asked = re.search(r"\b([a-z_]\w*)\s*\(", question) or re.search(
        r"(?:called|named)\s+[`\"']?([a-z_]\w*)", question
    )
    for pattern, usual, parameters, body in CODE:
        if re.search(pattern, question, re.IGNORECASE):
            return f"```python\ndef {asked[1] if asked else usual}({parameters}):\n    {body}\n```"
    return ""
