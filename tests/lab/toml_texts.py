"""TOML documents as people write them: odd spacing, comments everywhere, every kind of value and of table."""

from __future__ import annotations

import tomllib

from hypothesis import strategies as st

from tasks.route.merge.block import BEGIN, BOM, END

LETTERS = st.text("abäß漢- ", min_size=1, max_size=6)
"""What quoted keys and strings are made of; some of it has no place in a bare key."""

LIKE_MARKERS = (BEGIN, END, "[models.m]", "# >>> pmoves-provisioner", "# <<< pmoves-provisioner x")
"""Lines that mean something outside of a string, and nothing inside of one."""

LINES = st.lists(
    st.sampled_from((*LIKE_MARKERS, "", "text", 'a "quoted" word', "#", "\\\\", "é\N{LINE SEPARATOR}"))
)
BLANKS = st.sampled_from(("", " ", "\t", "  "))
COMMENTS = st.sampled_from(("", "# why", " #", "\t# é 漢 [x] = '", "#>>> pmoves-provisioner"))


def _long_strings(quotes: str) -> st.SearchStrategy[str]:
    return LINES.map(lambda lines: quotes + "\n".join(("", *lines, "")) + quotes)


SCALARS = st.one_of(
    st.integers(-9, 10**6).map(str),
    st.sampled_from(
        ("0x1F", "1_000", "1e3", "-0.5", "inf", "true", "false", "1979-05-27T07:32:00Z", "07:32:00")
    ),
    LETTERS.map(lambda text: f'"{text}"'),
    LETTERS.map(lambda text: f"'{text}'"),
    st.sampled_from(('"\\u00e9\\n"', '""', "''", '"# no comment"', '"""one"""', "'''one'''")),
    _long_strings('"""'),
    _long_strings("'''"),
)


def _arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    between = st.sampled_from((", ", ",", ",\n  ", " , # why\n\n"))
    around = st.sampled_from(("", " ", "\n", " # why\n"))
    parts = st.tuples(st.lists(values, max_size=3), between, around)
    return parts.map(lambda part: f"[{part[2]}{part[1].join(part[0])}{part[2]}]")


def _inline_tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    fields = st.lists(values.filter(lambda value: "\n" not in value), max_size=3)
    return fields.map(lambda found: "{ " + ", ".join(f"f{i} = {v}" for i, v in enumerate(found)) + " }")


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(_arrays(inner), _inline_tables(inner)), max_leaves=4)


@st.composite
def keys(draw: st.DrawFn, number: int) -> str:
    """Draw a key that no other of its table has: bare, quoted or dotted."""
    form = draw(st.sampled_from(("k{n}", '"q {n} {w}"', "'l{n}'", "d{n}.x", "d{n} . 'y z' . w", "3{n}")))
    return form.format(n=number, w=draw(LETTERS))


@st.composite
def _bodies(draw: st.DrawFn, most: int = 4) -> list[str]:
    lines = []
    for number in range(draw(st.integers(0, most))):
        key, value, blank, comment = draw(keys(number)), draw(VALUES), draw(BLANKS), draw(COMMENTS)
        lines.append(f"{blank}{key}{blank}={blank}{value}{blank}{comment}")
        lines += draw(st.lists(st.one_of(COMMENTS, BLANKS), max_size=2))
    return lines


HEADERS = st.sampled_from(
    (
        "gateway",
        "models",
        "models.hand",
        'models."hand/2:x.y"',
        "models.hand.providers.p",
        "embedding_models.e",
        "functions.f",
        "functions.f.variants.v",
        " functions . 'f g' ",
        "metrics.n",
        "tools.t",
        "other",
        "other.deep.er",
    )
)
LISTS = st.sampled_from(("rate.rules", "rate.rules", "list", "list.inner"))


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Draw a document that is TOML. No table of it is called `ours`, no comment is one of our markers."""
    lines = draw(_bodies())
    for _ in range(draw(st.integers(0, 6))):
        header = draw(st.one_of(HEADERS.map(lambda name: f"[{name}]"), LISTS.map(lambda name: f"[[{name}]]")))
        if _is_toml("\n".join((*lines, header))):
            lines += [header + draw(COMMENTS), *draw(_bodies(3))]
    text = "\n".join(lines) + draw(st.sampled_from(("\n", "", "\n\n", "  ", "\n# the end")))
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return draw(st.sampled_from(("", "", BOM))) + text


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
