"""The route table: gate 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.policy import Routes

ROUTES = Routes.load()

# (family, kind, sender role) -> (receiver role, process, connection, closing); by hand, from the brief.
EXPECTED = {
    **{
        ("usage", kind, "PUBLISHER"): {
            ("PORTAL", "Gebruik", "required", False),
            ("SHOP", "Gebruik", "agreement-only", False),
            ("SIS", "Gebruik", "required", False),
        }
        for kind in ("ACTIVATION", "USE", "RETRACT")
    },
    ("usage", "PROGRESS", "PUBLISHER"): {("PORTAL", "Gebruik", "required", False)},
    **{
        ("identity", kind, "SIS"): {("VAULT", "BestellenLeveren", "none", kind in ("LEAVE", "ERASE"))}
        for kind in ("ENROL", "CHANGE", "LEAVE", "MERGE", "REPLACE", "ERASE")
    },
}


def test_the_shipped_routes_are_as_agreed() -> None:
    """All of them and no others."""
    found: dict[tuple[str, str, str], set[tuple[str, str, str, bool]]] = {}
    for route in ROUTES:
        for kind in route.kinds:
            found.setdefault((route.family, kind, route.sender_role), set()).add(
                (route.receiver_role, route.process, route.connection, route.closing)
            )
    assert found == EXPECTED


def test_what_has_no_route_goes_nowhere() -> None:
    """Unknown family, kind or role: an empty answer, whatever the words."""
    assert ROUTES.find("usage", "USE", ("SHOP",)) == ()
    assert ROUTES.find("usage", "ENROL", ("PUBLISHER",)) == ()
    assert ROUTES.find("order", "USE", ("PUBLISHER",)) == ()
    assert ROUTES.find("usage", "USE", ()) == ()


def test_a_party_with_two_roles_gets_the_routes_of_both() -> None:
    """In the order of the table."""
    both = ROUTES.find("usage", "PROGRESS", ("SIS", "PUBLISHER"))
    assert [route.receiver_role for route in both] == ["PORTAL"]
    assert ROUTES.find("identity", "ENROL", ("PUBLISHER", "SIS"))[0].receiver_role == "VAULT"


def test_the_answer_is_remembered_within_bounds() -> None:
    """Kinds come from events: ten thousand unheard ones must not fill the memory."""
    routes = Routes.load()
    first = routes.find("usage", "USE", ("PUBLISHER",))
    assert routes.find("usage", "USE", ("PUBLISHER",)) is first
    for number in range(20_001):
        routes.find("usage", f"KIND_{number}", ("PUBLISHER",))
    assert len(routes._found) <= 10_000
    assert routes.find("usage", "USE", ("PUBLISHER",)) == first


def test_routes_survive_the_registry() -> None:
    """Read from their record they are the same, to the byte."""
    again = Routes.from_record(ROUTES.record())
    assert again.record() == ROUTES.record()
    assert list(again) == list(ROUTES)
    assert len(again) == 6


GOOD = """
routes:
  - {family: usage, kinds: [USE], sender_role: PUBLISHER, receiver_role: SHOP, process: Gebruik,
     connection: agreement-only, evidence: e}
"""


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        (", evidence: e", "", r"routes\[0\]\.evidence: is missing"),
        ("connection: agreement-only", "connection: none", "connection `none` is for the receiver VAULT"),
        ("receiver_role: SHOP", "receiver_role: VAULT", "connection `none` is for the receiver VAULT"),
        ("sender_role: PUBLISHER", "sender_role: VAULT", "sender_role"),
        ("kinds: [USE]", "kinds: [USE, USE]", "usage USE: PUBLISHER to SHOP is there twice"),
        ("kinds: [USE]", "kinds: []", "kinds"),
        ("kinds: [USE]", "kinds: [use]", "kinds"),
        ("process: Gebruik", "process: Verkopen", "process"),
        ("evidence: e", "evidence: e, because: f", "because: is not a known field"),
    ],
)
def test_a_route_table_with_a_mistake_does_not_load(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    """With a sentence that says where."""
    path = tmp_path / "routes.yaml"
    assert was in GOOD
    path.write_text(GOOD, "utf-8")
    assert len(Routes.load(path)) == 1
    path.write_text(GOOD.replace(was, becomes), "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        Routes.load(path)
    assert caught.value.code == "routes.invalid"
