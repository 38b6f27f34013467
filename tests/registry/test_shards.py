"""A mapping of which a changed copy costs what changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.registry.shards import SHARDS, Shards

changes = st.dictionaries(st.text(max_size=2), st.one_of(st.none(), st.integers()), max_size=20)


@given(st.lists(changes, max_size=6))
def test_it_holds_what_a_dictionary_would(steps: list[dict[str, int | None]]) -> None:
    """After any changes, and each earlier mapping still holds what it did."""
    shards: Shards[int] = Shards()
    made = [(shards, dict[str, int]())]
    for step in steps:
        before, plain = made[-1]
        after = {key: value for key, value in {**plain, **step}.items() if value is not None}
        made.append((before.with_changes(step), after))
    for mapping, plain in made:
        assert dict(mapping.items()) == plain
        assert all(mapping.get(key) == plain.get(key) for step in steps for key in step)


def test_a_change_shares_all_parts_that_it_leaves_alone() -> None:
    """One key in two thousand changes one part in four thousand."""
    old = Shards[int]().with_changes({f"key-{number}": number for number in range(2_000)})
    new = old.with_changes({"key-7": 8})
    differing = [1 for before, after in zip(old._parts, new._parts, strict=True) if before is not after]
    assert len(differing) == 1
    assert len(new._parts) == SHARDS
    assert (old.get("key-7"), new.get("key-7")) == (7, 8)
