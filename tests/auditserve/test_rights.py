"""Who may ask what: the table of rights over every role and question, and what a board's schools are called."""

from __future__ import annotations

from itertools import product

import pytest

from broker.auditserve.rights import Asker, Keys, Question, Right, Role, Scope, asker, right, schools_of
from broker.errors import AccessDenied
from broker.registry import Suspension
from broker.registry.registry import record_of
from broker.registry.suspension import suspension_key
from tests.auditserve.office import BOARD, OTHER_BOARD, school_world
from tests.exchange.world import DELTA, NOW

SCHOOLS, OWN = Right(Scope.ITS_SCHOOLS), Right(Scope.ITS_OWN)
# As docs/howto/audit-service.md has it.
EXPECTED = {
    ("board", "find"): SCHOOLS, ("board", "explain"): SCHOOLS, ("board", "receipt"): SCHOOLS,
    ("board", "people"): Right(Scope.ITS_SCHOOLS, Keys.ITS_SCHOOL),
    ("board", "processing-activities"): Right(Scope.ITS_LINES, Keys.ITS_SCHOOL),
    ("party", "find"): OWN, ("party", "explain"): OWN, ("party", "receipt"): OWN, ("party", "people"): None,
    ("party", "processing-activities"): None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("role", "question"), list(product(Role, Question)), ids=[f"{r}-{q}" for r, q in product(Role, Question)]
)
def test_every_role_and_question_is_as_the_table_has_it(role: Role, question: Question) -> None:
    """A new role or question that nobody decided over fails here."""
    expected = EXPECTED[role.value, question.value]
    if expected is not None:
        assert right(role, question) == expected
        return
    with pytest.raises(AccessDenied) as caught:
        right(role, question)
    assert caught.value.code == "audit.denied"


def test_what_is_not_in_the_table_is_denied() -> None:
    """Also what nobody thought of."""
    with pytest.raises(AccessDenied):
        right("inspector", Question.FIND)  # type: ignore[arg-type]


def test_who_asks_is_a_board_or_a_party_and_nobody_else() -> None:
    """A school, a service of the broker and a stranger are nobody; so are a name that is both and a suspended party."""
    world = school_world()
    assert asker(world.registry, BOARD) == Asker(BOARD, Role.BOARD)
    assert asker(world.registry, DELTA) == Asker(DELTA, Role.PARTY)
    board = world.records[f"board/{BOARD}"].replace(BOARD.encode(), DELTA.encode())
    both = world.registry.with_changes({f"board/{DELTA}": board})
    said = Suspension(id=DELTA, since=NOW, reason="its login was stolen", by="the operator")
    shut_out = world.registry.with_changes({suspension_key(DELTA): record_of(said)})
    nobody = ((world.registry, "99PA"), (world.registry, "operator"), (world.registry, ""), (both, DELTA))
    for registry, name in (*nobody, (shut_out, DELTA)):
        with pytest.raises(AccessDenied) as caught:
            asker(registry, name)
        assert caught.value.code == "audit.who"


def test_a_school_is_known_by_its_locations_and_by_what_it_was_called() -> None:
    """By no name that is another school's, or that two schools claim."""
    world = school_world()
    assert schools_of(world.registry, BOARD) == {"99PA": ("99PA",)}
    assert schools_of(world.registry, OTHER_BOARD) == {"99VA": ("99VA", "99VA00", "99VA01")}
    assert schools_of(world.registry, DELTA) == {}
    world.edit("school/99VA", formerly=["99VB", "99PA", "99VC"])
    world.edit("school/99MA", formerly=["99VC"])
    assert schools_of(world.registry, OTHER_BOARD) == {
        "99VA": ("99VA", "99VA00", "99VA01", "99VB", "99VB00", "99VB01")
    }  # fmt: skip
    world.edit("school/99VA", board=BOARD)
    assert schools_of(world.registry, OTHER_BOARD) == {}
    assert schools_of(world.registry, BOARD).keys() == {"99PA", "99VA"}


def test_a_location_that_is_another_school_now_is_not_had_by_its_old_brin() -> None:
    """Of a BRIN that a school had, one location may have gone elsewhere: under its own name, or under a new one."""
    world = school_world()
    world.edit("school/99VA", formerly=["99VB"])
    assert schools_of(world.registry, OTHER_BOARD)["99VA"] == ("99VA", "99VA00", "99VA01", "99VB", "99VB00", "99VB01")
    world.edit("school/99PA", formerly=["99VB01"])
    assert schools_of(world.registry, OTHER_BOARD)["99VA"] == ("99VA", "99VA00", "99VA01", "99VB", "99VB00")
    assert schools_of(world.registry, BOARD)["99PA"] == ("99PA", "99VB01")
    alone = world.records["school/99PA"].replace(b'"99PA"', b'"99VB00"').replace(b'"99VB01"', b'"99VC"')
    registry = world.registry.with_changes({"school/99VB00": alone})
    assert schools_of(registry, OTHER_BOARD)["99VA"] == ("99VA", "99VA00", "99VA01", "99VB")
