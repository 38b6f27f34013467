"""Guards of the exchange, each taken away in one way, and the test that must notice.

A test that was never seen to fail proves nothing. Each mutant removes one guard in memory, with nothing else changed;
`test_mutants` runs the named check with and without it.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import fastavro
import pytest

from broker import wire
from broker.audit.leaf import Commitments
from broker.crypto import DataKeyMaker, KeyedHash, keyed_hash, seal, unseal
from broker.exchange import authorise, check, journal, minimise, pipeline, swap
from broker.exchange import open as opening
from broker.exchange import parking as parking_of
from broker.exchange import quarantine as quarantine_of
from broker.exchange.decide import Account
from broker.exchange.journal import Journal
from broker.exchange.keys import ExchangeKeys
from broker.exchange.model import LANE_STATE
from broker.exchange.pipeline import _Batch
from broker.exchange.state import LaneState
from broker.identity.vault import VaultCipher
from broker.policy import CONDITIONS, Routes
from broker.registry import Agreement, Registry, School
from broker.schemas import Family, Field, Schema, catalogue, outputs
from broker.wire import decode_envelope
from tests.exchange import test_bad_input as bad
from tests.exchange import test_delivery as delivery
from tests.exchange import test_gates as gates
from tests.exchange import test_hostile as hostile
from tests.exchange import test_identity as identity
from tests.exchange import test_parking as parking
from tests.exchange import test_replay as replay
from tests.exchange import test_window as window
from tests.exchange.world import NOAH, SIS, World, enrolment, make_world

Patch = pytest.MonkeyPatch
Check = Callable[[], None]


class Mutant(NamedTuple):
    """A guard, how it is removed, and the test that must fail then."""

    guard: str
    remove: Callable[[Patch], None]
    check: Check


# ---- checks


def enrolled() -> World:
    """As the fixture `school`: Emma and Noah are enrolled."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(NOAH, "L0002"))
    world.outgoing.clear()
    return world


def of(test: Callable[..., None], *arguments: Any) -> Check:
    """A test function with the fixture it asks for."""
    first = next(iter(inspect.signature(test).parameters), None)
    fixture = {"school": enrolled, "world": make_world}.get(first or "")
    return lambda: test(*([] if fixture is None else [fixture()]), *arguments)


def row(name: str) -> Check:
    """A row of the table of bad input."""
    return of(bad.test_each_bad_input_has_its_own_code_is_audited_and_told_and_the_next_record_goes_on, name)


def gate(name: str) -> Check:
    """A row of the table of withdrawals."""
    return of(gates.test_a_withdrawn_gate_stops_the_named_receiver_and_only_what_it_withdraws, name)


# ---- ways to remove a guard


def stub(owner: Any, name: str, function: Any) -> Callable[[Patch], None]:
    """Put this in the guard's place."""
    return lambda patch: patch.setattr(owner, name, function)


def wrapped(owner: Any, name: str, change: Callable[..., Callable[..., Any]]) -> Callable[[Patch], None]:
    """Put something around the guard."""
    return lambda patch: patch.setattr(owner, name, change(getattr(owner, name)))


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing, find nothing."""


def always(*_: Any, **__: Any) -> bool:
    """Say yes."""
    return True


def never(*_: Any, **__: Any) -> bool:
    """Say no."""
    return False


def without_associated_data(patch: Patch) -> None:
    """Both sides seal without binding the parts to their envelope."""
    patch.setattr(wire, "seal", lambda key, plain, _: seal(key, plain, b""))
    patch.setattr(wire, "unseal", lambda key, sealed, _, part: unseal(key, sealed, b"", part))


def read_on(self: Schema, data: bytes) -> Any:
    """Decode and do not ask what follows."""
    return fastavro.schemaless_reader(io.BytesIO(data), self.parsed, None)


def any_agreement(self: Registry, school: str, receiver: str, *_: Any, **__: Any) -> Agreement | None:
    """Whatever agreement the receiver has with the board."""
    return next(iter(self._agreements.between(self.schools[school].board, receiver)), None)


def no_essentials(patch: Patch) -> None:
    """No kind needs anything to pass."""
    kinds = catalogue().family("usage").kinds
    for name, kind in kinds.items():
        patch.setitem(kinds, name, replace(kind, essential=()))


def unnamed(real: Callable[..., Any]) -> Callable[..., Any]:
    """Do not look at the named receiver."""
    return lambda event, *rest: real(replace(event, envelope={**event.envelope, "receiver": None}), *rest)


def first_found(event: Any, vault: Any, reader: Any) -> Any:
    """The first person that any of the ids leads to."""
    found = [swap.find_person(replace(event, subject=one), vault, reader) for one in _single(event.subject)]
    return found[0]


def _single(subject: dict[str, Any]) -> list[dict[str, Any]]:
    if subject["eck_id"] is not None:
        return [{**subject, "user_ids": []}]
    return [{**subject, "user_ids": [one]} for one in subject["user_ids"]]


def release_only(self: _Batch) -> None:
    """Parked events go on, or wait for ever."""
    for number in sorted(self.state.parked):
        event = self.parking.event(number)
        if event is not None and self.get(event.waits_for) is not None:
            self.handle(event.record, event)


def release_backwards(self: _Batch) -> None:
    """The last that was parked goes first."""
    for number in sorted(self.state.parked, reverse=True):
        event = self.parking.event(number)
        if event is not None and self.get(event.waits_for) is not None:
            self.handle(event.record, event)


def everything_kept(real: Callable[..., Any]) -> Callable[..., Any]:
    """What the schema has room for is filled in."""
    return lambda event, target, *rest: real(event, replace(target, kept=target.kept | target.dropped), *rest)


def whole_schema(patch: Patch) -> None:
    """Every receiver gets the family's own schema."""
    for owner in (authorise, outputs):
        patch.setattr(owner, "role_schema", lambda family, *_: family.schema)


def all_conditions(*_: Any) -> frozenset[str]:
    """Every receiver, event and person meets every condition."""
    return frozenset(CONDITIONS)


def no_quarantine(real: Callable[..., None]) -> Callable[..., None]:
    """What is quarantined is thrown away."""
    return lambda self, topic, *rest: None if topic.startswith("quarantine.") else real(self, topic, *rest)


def never_taken_back(self: Journal, offset: int) -> bool:
    """What was replayed stays in quarantine."""
    return offset in self.state.quarantined


def link_unknown(real: Callable[..., Any]) -> Callable[..., Any]:
    """The leaf does not say that it is of a replay."""

    def without(account: Account, *rest: Any) -> bytes:
        said, account.replay_of = account.replay_of, None
        leaf: bytes = real(account, *rest)
        account.replay_of = said
        return leaf

    return without


def by_kid(self: ExchangeKeys, kid: str, jwk: Any) -> DataKeyMaker:
    """Remember recipient keys by the name that a party gave them."""
    return self._makers.setdefault((kid, "", ""), DataKeyMaker(jwk, kid))


def one_secret(*_: Any) -> KeyedHash:
    """All receivers' keys are made with one secret."""
    return KeyedHash(b"k" * 32)


def no_slots(real: Callable[..., Any]) -> Callable[..., Any]:
    """The duplicate window is not written down."""
    return lambda self, *rest: [o for o in real(self, *rest) if o.topic != LANE_STATE or b"#" not in (o.key or b"")]


def any_time(real: Callable[..., Any]) -> Callable[..., Any]:
    """Any clock is right."""
    return lambda record, envelope, registry, limits, now: real(
        record, envelope, registry, replace(limits, clock_skew_ms=10**15, event_age_days=10**6), now
    )


def own_word(real: Callable[..., Any]) -> Callable[..., Any]:
    """The sender is who the envelope says."""
    return lambda record, envelope, *rest: real(record, {**envelope, "sender": record.party}, *rest)


def restart_flow(self: Journal, topic: str, partition: int) -> tuple[str, int]:
    """Every record is the first of its flow."""
    return f"{topic}/{partition}", 1


def one_memo(patch: Patch) -> None:
    """What was authorised once stays so, whatever the registry says by now."""
    memo = authorise._Memo()
    patch.setattr(authorise, "_memo", lambda _registry: memo)


def no_calendar(patch: Patch) -> None:
    """Any number is a date."""
    patch.setitem(catalogue().family("usage").__dict__, "moments", ())


def top_level_only(self: Family) -> list[tuple[Field, Callable[..., list[tuple[str, bool]]]]]:
    """What lies inside a field is not looked at."""
    return [
        (field, lambda value, _: [(value, False)] if isinstance(value, str) else []) for field in self.schema.fields
    ]


def refusals_at_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """Refused receivers are written down before it is known whether the event must wait."""

    def person(self: _Batch, event: Any, parked: Any) -> Any:
        found = authorise.authorise(event, event.school, self.registry, self.day)
        for refusal in found.refusals:
            self.journal.log(Account.of(event.record, self.now_ms), refusal)
        return real(self, event, parked)

    return person


NEVER_MATCHES = re.compile(r"(?!)")

MUTANTS = (
    # open
    Mutant("sizes", stub(pipeline, "open_envelope", lambda r, _: decode_envelope(r.value)), row("a record that is too large")),
    Mutant("size of headers", stub(pipeline, "open_envelope", lambda r, _: decode_envelope(r.value)), row("headers that are too large")),
    Mutant("trailing bytes", stub(Schema, "decode", read_on), row("trailing bytes")),
    Mutant("form of the key", stub(opening, "RECORD_KEY_BYTES", 5), row("a key that is not a hash")),
    Mutant("associated data", without_associated_data, row("an envelope changed after sealing")),
    # check
    Mutant("PGN in texts", stub(check, "find_pgn", nothing), row("a BSN in a note")),
    Mutant("PGN in ids", stub(check, "find_pgn", nothing), row("an onderwijsnummer as local id")),
    Mutant("PGN in nested fields", stub(Family, "texts", property(top_level_only)), row("a BSN in a nested field")),
    Mutant("PGN in headers", stub(check, "screen_bytes", nothing), row("a BSN in a header")),
    Mutant("what is outside", stub(pipeline, "check_outside", nothing), row("a BSN in the key")),
    Mutant("PGN in the envelope", stub(check, "_ENVELOPE_SCREENED", ()), row("a BSN in the agreement hint")),
    Mutant("PGN as receiver", stub(check, "_ENVELOPE_SCREENED", ("agreement",)), of(hostile.test_a_pgn_in_clear_in_the_envelope_is_an_incident, "receiver")),
    Mutant("who sends", wrapped(pipeline, "check_envelope", own_word), row("a forged sender")),
    Mutant("whose school", stub(Registry, "serves", always), of(gates.test_an_unknown_school_and_one_of_another_party_are_one_answer)),
    Mutant("the clock", wrapped(pipeline, "check_envelope", any_time), row("an event of the future")),
    Mutant("school years", stub(check, "school_years", lambda _: {"2019-2020", "2026-2027"}), row("a school year long ago")),
    Mutant("control characters", stub(check, "_CONTROL", NEVER_MATCHES), row("a NUL byte")),
    Mutant("uuids", stub(check, "is_uuid", always), row("a licence that is no uuid")),
    Mutant("ECK iDs", stub(check, "is_eck_id", always), row("an ECK iD of another form")),
    Mutant("product numbers", stub(check, "is_product_id", always), row("a product that is no number")),
    Mutant("the calendar", no_calendar, of(hostile.test_a_date_that_no_calendar_has_does_not_reach_a_receiver)),
    # authorise
    Mutant("gate 1, kinds and roles", stub(Routes, "find", lambda self, *_: tuple(r for r in self if r.family == "usage")), of(gates.test_progress_has_a_route_to_the_portal_only)),
    Mutant("gate 2", stub(Registry, "agreement", any_agreement), gate("gate 2, it is about another product")),
    Mutant("gate 2, dates", stub(Registry, "agreement", any_agreement), of(gates.test_an_agreement_ends_at_midnight_in_the_middle_of_a_day_of_work)),
    Mutant("gate 3", stub(Registry, "connected", always), gate("gate 3, the sender revoked")),
    Mutant("gate 3, parked", stub(Registry, "connected", always), of(gates.test_a_withdrawn_gate_stops_what_was_parked, "gate 3, the sender revoked")),
    Mutant("gate 4", no_essentials, gate("gate 4, the policy denies it")),
    Mutant("memory of the old registry", one_memo, gate("gate 3, the receiver's side is gone")),
    Mutant("named receiver", wrapped(pipeline, "authorise", unnamed), of(delivery.test_a_named_receiver_is_the_only_one)),
    Mutant("mandate", stub(School, "mandated", always), of(gates.test_only_the_mandated_sis_may_enrol_and_not_before_its_first_day)),
    Mutant("covenant", stub(authorise, "_conditions_met", all_conditions), of(delivery.test_a_party_outside_the_covenant_gets_a_pseudonym_of_its_own)),
    # swap
    Mutant("school in the vault's keys", stub(VaultCipher, "key", lambda _self, _sector, _school, t, v: keyed_hash(b"k" * 32, t, v)), of(delivery.test_a_pupil_of_another_school_is_unknown)),
    Mutant("sector in the vault's keys", stub(VaultCipher, "key", lambda _self, _sector, school, t, v: keyed_hash(b"k" * 32, school, t, v)), of(identity.test_the_same_local_id_in_another_sector_is_another_pupil)),
    Mutant("ids of two people", stub(pipeline, "find_person", first_found), of(identity.test_ids_of_two_pupils_in_one_event_are_a_conflict)),
    Mutant("who left", stub(minimise, "check_left", never), of(delivery.test_a_pupil_who_left_gets_no_more_events_after_that_day)),
    Mutant("one enrolment", stub(swap, "_by_subject_key", lambda records: {r.subject_key: r for r in list(records)[:1]}), of(identity.test_an_identity_event_over_two_people_changes_nothing, "CHANGE that takes another pupil's LAS key")),
    # parking
    Mutant("waiting behind", stub(pipeline, "waiting_key", nothing), of(parking.test_events_under_several_ids_of_one_pupil_keep_their_order)),
    Mutant("order of release", stub(_Batch, "release", release_backwards), of(parking.test_events_under_several_ids_of_one_pupil_keep_their_order)),
    Mutant("expiry", stub(_Batch, "release", release_only), of(parking.test_a_parked_event_expires_with_a_decision_and_a_status)),
    Mutant("decided once", wrapped(_Batch, "_person", refusals_at_once), of(parking.test_what_waits_has_no_final_decision_yet_and_gets_one_per_receiver)),
    Mutant("headers that are parked", stub(parking_of, "ALLOWED_IN", ("data-key", "x-leerling")), of(parking.test_only_the_headers_that_open_it_are_parked)),
    # minimise and seal
    Mutant("agreed attributes", wrapped(pipeline, "minimise_body", everything_kept), of(delivery.test_a_conditional_attribute_that_the_agreement_does_not_name_is_null)),
    Mutant("output schema", whole_schema, of(delivery.test_a_never_attribute_is_not_in_the_receivers_schema_at_all)),
    Mutant("only without ECK iD", stub(minimise, "conditions_met", all_conditions), of(delivery.test_the_school_gets_its_own_id_back_and_others_only_the_eck_id)),
    Mutant("keys per receiver", stub(ExchangeKeys, "_receiver", one_secret), of(delivery.test_record_keys_are_equal_for_one_pupil_at_one_receiver_and_unlinkable_between_receivers)),
    Mutant("keys by kid", stub(ExchangeKeys, "maker", by_kid), of(hostile.test_two_parties_with_one_key_id_each_get_what_is_sealed_for_them)),
    # decide
    Mutant("duplicates", stub(_Batch, "_was_delivered", never), of(delivery.test_an_event_sent_again_is_a_duplicate_for_who_got_it)),
    Mutant("duplicates after a restart", wrapped(LaneState, "records", no_slots), of(window.test_the_window_is_the_same_after_a_restart)),
    Mutant("sequence numbers", stub(Journal, "next_seq", restart_flow), of(delivery.test_sequence_numbers_of_a_flow_have_no_gap)),
    Mutant("commitment to the value", stub(journal, "commitment", lambda *_: "x" * 43), of(delivery.test_the_leaf_says_what_was_sent_and_holds_no_value)),
    Mutant("tokens per event", stub(Commitments, "token", lambda _: "emma"), of(delivery.test_tokens_of_one_pupil_differ_between_events)),
    Mutant("incidents", stub(Journal, "_incident", nothing), row("a BSN in a note")),
    Mutant("quarantine", wrapped(Journal, "_by_event", no_quarantine), row("a changed body")),
    Mutant("one replay", stub(Journal, "take_back", never_taken_back), of(replay.test_a_second_replay_is_refused, False)),
    Mutant("one replay, after a restart", wrapped(LaneState, "records", no_slots), of(replay.test_a_lane_remembers_a_bounded_number_of_what_waits)),
    Mutant("replay of something", stub(Journal, "take_back", always), of(replay.test_only_what_waits_in_quarantine_can_be_replayed)),
    Mutant("link to the first try", wrapped(journal, "audit_leaf", link_unknown), of(replay.test_a_replay_goes_through_all_steps_and_its_leaf_names_the_first_try)),
    Mutant("link of a parked replay", stub(parking_of, "ALLOWED_IN", ("data-key", "traceparent")), of(replay.test_a_replay_that_waits_keeps_its_link)),
    Mutant("form of the link", stub(quarantine_of, "is_earlier_offset", lambda _, value: value.isdigit()), of(replay.test_a_link_that_is_no_earlier_offset_is_refused_and_stands_nowhere, b"99")),
    Mutant("that it was replayed", stub(Journal, "replayed", nothing), of(replay.test_who_looks_at_the_quarantine_sees_that_it_was_replayed)),
    Mutant("status", stub(Journal, "tell", nothing), of(parking.test_every_decision_that_is_audited_is_told_as_well)),
)  # fmt: skip
