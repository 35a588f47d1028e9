"""The search finds the best placement: proved against one that tries everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts import May, Wish
from tasks.plan.fill import Board
from tasks.plan.preference import cost
from tasks.plan.search import solve
from tests.lab.bundles import best_by_trying, card_pool, decoder, encoder, main_pool, tables_of

BIG = decoder("big", roles=("llm", "code", "vision"), sizes_mib=(4000, 3000))
SMALL = decoder("small", roles=("llm", "code", "vision"), sizes_mib=(1500,))
CODER = decoder("coder", roles=("code",), sizes_mib=(3500,))
EYE = decoder("eye", roles=("vision",), sizes_mib=(2500,), heads=1)
VECTORS = encoder("vectors", role="embeddings", size_mib=600)
TINY = encoder("tiny", role="embeddings", size_mib=90, runtime="embedded")
EARS = encoder("ears", role="whisper", size_mib=900, runtime="speaches")
MODELS = (BIG, SMALL, CODER, EYE, VECTORS, TINY, EARS)

may = st.lists(st.sampled_from(["share", "wait", "cpu"]), unique=True).map(tuple)


def wish(
    role: str, models: tuple[str, ...], may: tuple[May, ...], kv: tuple[str, ...] = ("f16", "q8_0")
) -> Wish:
    """Return a wish with a short ladder, so that trying everything ends."""
    return Wish(role=role, models=models, context=24576, min_context=8192, kv_types=kv, may=may)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    cards=st.lists(st.integers(1000, 9000), max_size=2),
    ram=st.integers(0, 6000),
    llm_may=may,
    code_may=may,
    eye_may=may,
    low_may=may,
)
def test_the_search_is_optimal(
    cards: list[int],
    ram: int,
    llm_may: tuple[May, ...],
    code_may: tuple[May, ...],
    eye_may: tuple[May, ...],
    low_may: tuple[May, ...],
) -> None:
    """No placement is better than the one that is found."""
    wishes = (
        wish("llm", ("big", "small"), llm_may),
        wish("code", ("coder", "big"), code_may, ("q8_0",)),
        wish("embeddings", ("vectors", "tiny"), low_may),
        wish("vision", ("big", "eye"), eye_may, ("q8_0",)),
    )
    pools = (*(card_pool(at, size) for at, size in enumerate(cards)), main_pool(ram))
    tables = tables_of(MODELS, wishes, pools)
    board = Board.of(pools)

    found = solve(tables, board)

    assert best_by_trying(tables, board) == cost(tables, found)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1500, 6000),
    count=st.integers(2, 4),
    odd=st.integers(0, 4000),
    llm_may=may,
    code_may=may,
)
def test_equal_cards_are_no_exception(
    size: int, count: int, odd: int, llm_may: tuple[May, ...], code_may: tuple[May, ...]
) -> None:
    """Cards that look alike are taken for each other, and the best placement is found all the same."""
    wishes = (
        Wish(
            role="llm",
            models=("big", "small"),
            context=16384,
            min_context=12288,
            kv_types=("q8_0",),
            may=llm_may,
        ),
        Wish(
            role="code",
            models=("coder",),
            context=16384,
            min_context=16384,
            kv_types=("f16", "q8_0"),
            may=code_may,
        ),
        Wish(role="embeddings", models=("vectors",), may=()),
    )
    cards = tuple(card_pool(at, size) for at in range(count))
    pools = (*cards, *((card_pool(count, odd),) if odd > 1000 else ()), main_pool(3000))
    tables = tables_of(MODELS, wishes, pools)
    board = Board.of(pools)

    assert best_by_trying(tables, board) == cost(tables, solve(tables, board))


def test_the_memory_of_failures_knows_whom_a_later_role_could_share_with() -> None:
    """The same fill with another server in it is another state."""
    wishes = (
        Wish(
            role="llm", models=("twin-a", "twin-b"), context=8192, min_context=8192, kv_types=("f16",), may=()
        ),
        Wish(
            role="code", models=("twin-b",), context=8192, min_context=8192, kv_types=("f16",), may=("share",)
        ),
    )
    models = (
        decoder("twin-a", roles=("llm",), sizes_mib=(3000,)),
        decoder("twin-b", roles=("llm", "code"), sizes_mib=(3000,)),
    )
    pools = (card_pool(0, 5000), main_pool(0))
    tables = tables_of(models, wishes, pools)

    found = solve(tables, Board.of(pools))

    assert [choice.candidate.model.name for choice in found if choice.candidate] == ["twin-b", "twin-b"]
    assert found[1].shares == 0


def test_a_shared_server_has_the_context_that_its_sharers_need() -> None:
    """The owner would do with less; the role that shares it would not."""
    wishes = (
        Wish(role="llm", models=("big",), context=16384, min_context=2048, kv_types=("f16",), may=()),
        Wish(
            role="code", models=("big",), context=16384, min_context=12288, kv_types=("f16",), may=("share",)
        ),
    )
    pools = (card_pool(0, 4700), main_pool(0))
    tables = tables_of((decoder("big", roles=("llm", "code"), sizes_mib=(3500,)),), wishes, pools)

    found = solve(tables, Board.of(pools))

    assert found[1].shares == 0
    assert found[0].tokens >= 12288
