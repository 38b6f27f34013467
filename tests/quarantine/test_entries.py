"""What stands on a quarantine topic, without opening any of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from broker.errors import ConfigError
from broker.quarantine.entries import Place, Quarantine
from broker.schemas import catalogue, frame

ENTRY: Mapping[str, Any] = {
    "event_id": "5b0d7bd5-5f4c-4b39-9c0a-3c3b3c3a0001", "code": "pgn.bsn", "field": "comment", "rule": None,
    "school": "99PA", "receiver": None, "topic": "in.delta", "partition": 2, "offset": 17, "decided": 1_795_000_000_000,
    "recipients": ["a.b.c.d.e"], "whole": True, "content": b"sealed", "subject": None, "body": None,
}  # fmt: skip
HANDLED: Mapping[str, Any] = {
    "topic": "in.delta", "partition": 2, "offset": 17, "state": "DROPPED", "at": 1_795_000_100_000, "by": "anna",
    "reason": "test record", "replay": None,
}  # fmt: skip
PLACE = Place("delta", 2, 17)


def entry(**changes: Any) -> bytes:
    """A record of an entry."""
    schema = catalogue()["quarantine.v1"]
    return frame(schema.fingerprint, schema.encode({**ENTRY, **changes}))


def handled(**changes: Any) -> bytes:
    """A record of what became of it."""
    schema = catalogue()["handled.v1"]
    return frame(schema.fingerprint, schema.encode({**HANDLED, **changes}))


def test_a_place_is_read_as_it_is_written() -> None:
    """It is what people copy from a list."""
    assert Place.parse(str(PLACE)) == PLACE
    assert PLACE.json() == {"topic": "in.delta", "partition": 2, "offset": 17}


@pytest.mark.parametrize("text", ["", "delta", "in.delta/2/17", "delta/2", "delta/-1/0", "Delta/0/0", "delta/0/0 "])
def test_what_is_no_place_says_where_places_are_shown(text: str) -> None:
    """And not what was given: it may be anything."""
    with pytest.raises(ConfigError, match="quarantine list") as caught:
        Place.parse(text)
    assert caught.value.code == "quarantine.place"


def test_an_entry_is_open_until_something_became_of_it() -> None:
    """The other records of the topic tell."""
    assert Quarantine.read([entry()]).state(PLACE) == "open"
    assert Quarantine.read([entry(), handled()]).state(PLACE) == "dropped"
    assert Quarantine.read([entry(), handled(offset=18)]).state(PLACE) == "open"


@pytest.mark.parametrize("order", [1, -1])
def test_that_it_was_replayed_counts_more_than_that_it_was_dropped(order: int) -> None:
    """It is a fact of the data."""
    marks = [handled(), handled(state="REPLAYED", by="delta", replay=20)][::order]
    assert Quarantine.read([entry(), *marks]).state(PLACE) == "replayed"


def test_what_was_dealt_with_is_not_dealt_with_again() -> None:
    """Who, when, and where it went; the person at the keyboard need not look it up."""
    found = Quarantine.read([entry(), handled(state="REPLAYED", by="delta", replay=20)])
    with pytest.raises(ConfigError, match=r"delta/2/17 was replayed by delta .*; the replay is delta/2/20") as caught:
        found.require_open(PLACE)
    assert caught.value.code == "quarantine.handled"


def test_what_is_not_there_is_told() -> None:
    """Never there, or its term is over."""
    with pytest.raises(ConfigError, match="29 days") as caught:
        Quarantine.read([entry()]).require_open(Place("delta", 2, 18))
    assert caught.value.code == "quarantine.unknown"


def test_records_of_another_version_are_counted() -> None:
    """Not taken for something else, and not hidden."""
    found = Quarantine.read([entry(), None, b"", b"\xc3\x01" + b"12345678" + b"x", entry()[:-3]])
    assert (len(found.entries), found.unknown) == (1, 4)


def test_several_receivers_make_several_entries_of_one_record() -> None:
    """They are dealt with together: there is one record to replay."""
    found = Quarantine.read([entry(receiver="plein"), entry(receiver="boekhuis")])
    assert [e.receiver for e in found.require_open(PLACE)] == ["plein", "boekhuis"]


def test_no_sealed_byte_is_in_a_repr() -> None:
    """An exception's text ends in logs."""
    assert "sealed" not in repr(Quarantine.read([entry()]))
