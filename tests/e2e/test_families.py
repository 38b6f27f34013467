"""Every family, field by field, without a Kafka: what refuses a value never tells it, and what looks for one finds it."""

from __future__ import annotations

import traceback
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from broker.client import Subject
from broker.client.records import BODIES
from broker.errors import ContractError
from broker.schemas import Family, catalogue
from tests.e2e import flock, markers
from tests.exchange.world import NOW, World, make_world

FAMILIES = sorted({name for name, _ in catalogue().families})


def misfits(family: Family, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Bodies with a value of the wrong type in one field, a marker in each; a field's name is no secret."""
    good = markers.body(family, kind, {})
    for field in family.schema.fields:
        for wrong in (
            f"{markers.WORD}!",
            {"colour": markers.WORD},
            [{"a": markers.WORD}],
            markers.NUMBER * 10,
            b"\xff",
        ):
            yield field.name, good | {field.name: wrong}


def told(error: BaseException) -> str:
    """All that could be shown of an error, with what was raised before it."""
    chain, one = [], error
    while one is not None:
        chain += [str(one), repr(one.args), repr(getattr(one, "__dict__", {}))]
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)  # type: ignore[assignment]
    # The lines of the test's own source are in a traceback too; they hold no marker, only its name.
    return "\n".join((*chain, *traceback.format_exception(error)))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_does_not_fit_a_family_is_refused_without_a_word_of_it(name: str) -> None:
    """The client's records, and the schema itself: the error names a field at most (P6)."""
    family, refused = catalogue().family(name), 0
    for kind in family.kinds:
        for field, datum in misfits(family, kind):
            for attempt in (lambda d: BODIES[name].from_datum(d), family.schema.encode):
                try:
                    attempt(datum)
                except ContractError as error:
                    refused += 1
                    said = told(error)
                    assert markers.WORD not in said, (kind, field)
                    assert str(markers.NUMBER) not in said, (kind, field)
    assert refused > len(family.kinds) * len(family.schema.fields)


@pytest.mark.parametrize("name", FAMILIES)
def test_bytes_that_are_no_record_are_refused_without_a_word_of_them(name: str) -> None:
    """Truncated, followed by others, or not UTF-8: a decoder's own error would quote them."""
    family = catalogue().family(name)
    kind = next(iter(family.kinds))
    data = family.schema.encode(BODIES[name].from_datum(markers.body(family, kind, {})).datum())
    spoiled = data.replace(markers.WORD.encode(), b"\xff" + markers.WORD.encode()[1:])
    for broken in (data[:-3], data + markers.WORD.encode(), markers.WORD.encode() + data, spoiled):
        try:
            family.schema.decode(broken)
        except ContractError as error:
            assert markers.WORD[1:] not in told(error)


@pytest.mark.parametrize("name", [f for f in FAMILIES if f != "connection"])
def test_what_one_batch_writes_holds_no_marker(name: str) -> None:
    """The pure exchange: each kind of a family, good and broken, from everybody who may send it."""
    world, forms = make_world(), markers.needles(()) | markers.words()
    for school in flock.SCHOOLS:
        for sent in flock.enrolments(school):
            _through(world, sent)
        events = flock.identity_changes(school) if name == "identity" else flock.flights(world.registry, school)
        examples: dict[str, flock.Sent] = {}
        for sent in (one for one in events if one.event.family == name):
            examples[sent.event.kind] = sent
            if sent.person in (None, flock.people(school)[0]):
                _through(world, sent)
        for _, stray in chain.from_iterable(map(flock.strays, examples.values())):
            _through(world, stray)
    assert world.outgoing
    for out in world.outgoing:
        whole = b"\n".join((out.key or b"", out.value or b"", *(value for _, value in out.headers)))
        assert not markers.hits(whole, forms), out


def _through(world: World, sent: flock.Sent) -> None:
    world.run(sent.party, world.record(sent.party, replace(sent.event, created=NOW)))


# ---- what looks for a marker finds it


@pytest.mark.parametrize(
    "written",
    [
        markers.text("order", "given_name").encode(),
        markers.text("x").upper().encode(),
        markers.text("x").lower().encode(),
        markers.text("x").encode("utf-16-le"),
        markers.text("x").encode().hex().encode(),
        *(b64encode(b"#" * n + markers.text("x").encode()) for n in range(4)),
        markers.eck_id(7).encode(),
        bytes.fromhex(markers.eck_id(7).rpartition("/")[2]),
        markers.uuid().encode(),
        bytes.fromhex(markers.uuid().replace("-", "")),
        b'{"raw_score":1987654321}',
        catalogue()
        .family("usage")
        .schema.encode(BODIES["usage"].from_datum(markers.body(catalogue().family("usage"), "USE", {})).datum()),
        markers.DAY.isoformat().encode(),
        markers.MOMENT.isoformat().encode(),
        f"BSN {markers.BSN}".encode(),
        markers.sha256(b"somebody").hexdigest().encode(),
        markers.blake2b(b"somebody", digest_size=16).digest(),
    ],
)
def test_a_marker_is_found_however_it_was_written(written: bytes) -> None:
    """Else the canary would sing about nothing."""
    forms = markers.needles(("somebody",))
    assert markers.hits(b"\x00header" + written + b"trailer\xff", forms)


def test_every_personal_field_of_every_kind_is_filled() -> None:
    """By the schema: what a kind may use is not null, and texts are markers."""
    for family in catalogue().families.values():
        for kind in family.kinds.values():
            made = markers.body(family, kind.name, {})
            empty = {f.name for f in family.schema.fields if made[f.name] is None}
            assert empty == set(kind.unused), (family.name, kind.name)
            texts = {name for name, value in made.items() if isinstance(value, str)}
            personal = {f["name"] for f in family.schema.document["fields"] if markers.is_personal(f)}
            symbols = {name for name in texts if made[name].replace("_", "").isalnum() and made[name].isupper()}
            marked = {name for name in texts if markers.WORD in made[name] or markers.HEX in made[name]}
            assert (texts & personal) - symbols <= marked, (family.name, kind.name)


def test_an_event_in_a_log_line_shows_nothing_that_identifies() -> None:
    """The client's records keep what identifies out of their repr: a supplier's log is a log too."""
    shy = {"identifying", "pseudonym", "secret", "sensitive", "free-text"}
    for family in catalogue().families.values():
        cls = {f.name: f.cls for f in family.schema.fields}
        for kind in family.kinds:
            made = markers.body(family, kind, {})
            shown = repr(BODIES[family.name].from_datum(made))
            for name, value in made.items():
                if cls[name] in shy and isinstance(value, str):
                    assert value not in shown, (family.name, name)
    subject: Subject = flock.people("99PA")[0].subject
    assert markers.WORD not in repr(subject)
