"""As `mutants`: the guards over what may be said of an object, a link, a person, and for how long."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

from broker.days import day_of
from broker.errors import AccessDenied
from broker.exchange import authorise, check, duties, errand, minimise, objects, pipeline, swap, switch
from broker.exchange.duties import Duties
from broker.exchange.journal import Journal
from broker.exchange.objects import ObjectMemory
from broker.exchange.open import Opened
from broker.exchange.pipeline import _Batch
from broker.exchange.state import LaneState
from broker.exchange.switch import SwitchBoard
from broker.policy import PROCESSES, Closing
from broker.registry import Agreement, ConnectionSide, Registry, School, TemporaryException, connections, links
from broker.schemas import Family, Field, model
from tests.exchange import (
    test_closing,
    test_codes,
    test_conditions,
    test_corrections,
    test_duties,
    test_errand,
    test_exceptions,
    test_locations,
    test_nested,
    test_objects,
    test_parking,
    test_people,
    test_roles,
    test_routes,
    test_seeds,
    test_suspension,
    test_switch,
    test_switched,
)
from tests.exchange.links import BOTH
from tests.exchange.mutants import (
    NEVER_MATCHES,
    Check,
    Mutant,
    Patch,
    always,
    enrolled,
    never,
    nothing,
    of,
    stub,
    wrapped,
)
from tests.exchange.open_world import FREE, open_world
from tests.exchange.test_conditions import Person
from tests.exchange.world import BOOK, DELTA, PORTAL, SHOP

# ---- ways to remove a guard


def rewritten(owner: Any, name: str, old: str, new: str) -> Callable[[Patch], None]:
    """Put the same function in its place, with these words of it replaced."""

    def remove(patch: Patch) -> None:
        function = inspect.unwrap(getattr(owner, name))
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(old) != 1:
            raise LookupError(f"{name} does not have once: {old}")
        made: dict[str, Any] = {}
        exec(source.replace(old, new), sys.modules[function.__module__].__dict__, made)  # noqa: S102
        patch.setattr(owner, name, made[name])

    return remove


_texts = Family.texts.func


def codes_at_the_top(self: Family) -> list[tuple[Field, Callable[..., list[tuple[str, bool]]]]]:
    """A text goes by the outermost field's class."""

    def texts_of(field: Field, texts: Callable[..., Any]) -> Callable[..., list[tuple[str, bool]]]:
        return lambda value, most: [(text, field.cls == "business") for text, _ in texts(value, most)]

    return [(field, texts_of(field, texts)) for field, texts in _texts(self)]


class Anything:
    """Holds everything."""

    def __contains__(self, _: object) -> bool:
        return True


def never_stale(real: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever revision: it is newer."""
    return lambda event, last: real(event, last and last._replace(revision=-1))


def checked(real: Callable[..., Any]) -> Callable[..., Any]:
    """Nobody is told that an order was not checked."""
    return lambda event, last: (real(event, last)[0], True)


def moved_at_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """An object moves when something is said of it, whether or not anybody gets it."""

    def follows(self: _Batch, event: Any, thing: bytes | None) -> Any:
        said, code = real(self, event, thing)
        if thing is not None:
            self.delta.objects[thing] = said
        return said, code

    return follows


def without(mark: bytes) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A part of the lane's state is not written down."""
    return lambda real: lambda self, *rest: [out for out in real(self, *rest) if mark not in (out.key or b"")]


def filled_only(real: Callable[..., Any]) -> Callable[..., Any]:
    """The audit names what was filled in, not what could pass."""

    def passing(event: Any, target: Any, *rest: Any) -> Any:
        found = real(event, target, *rest)
        filled = {f.attribute for f in event.family.schema.fields if event.body[f.name] is not None}
        return replace(found, kept=found.kept & filled)

    return passing


def met(name: str) -> Callable[[Patch], None]:
    """This condition is always met."""
    return wrapped(minimise, "conditions_met", lambda real: lambda *of_event: real(*of_event) | {name})


def sent_by_whom_it_concerns(real: Callable[..., Any]) -> Callable[..., Any]:
    """Whoever says it is a party of the link."""
    return lambda event, *rest: real(replace(event, envelope={**event.envelope, "sender": event.body["sender"]}), *rest)


def one_side_seen(real: Callable[..., Any]) -> Callable[..., Any]:
    """Only the side that is spoken of is looked at."""

    def switched(event: Any, registry: Any, find: Any, now: int) -> Any:
        own = switch._SIDES[event.body["side"]]
        return real(event, registry, lambda link, side: find(link, side) if side in own else None, now)

    return switched


def clock_of_sender(real: Callable[..., Any]) -> Callable[..., Any]:
    """The time is what the event says."""
    return lambda event, registry, find, _now: real(event, registry, find, event.envelope["created"])


def told_anyway(real: Callable[..., Any]) -> Callable[..., Any]:
    """What the registry refuses goes on to the parties."""

    def sides(self: _Batch, *rest: Any) -> Any:
        try:
            return real(self, *rest)
        except AccessDenied:
            return []

    return sides


def any_state(patch: Patch) -> None:
    """Every kind may come in every state."""
    for kind, (state, _) in switch.TRANSITIONS.items():
        patch.setitem(
            switch.TRANSITIONS, kind, (state, frozenset({None, "offered", "accepted", "declined", "revoked"}))
        )


def any_process(real: Callable[..., Any]) -> Callable[..., Any]:
    """A link is for all processes."""

    def connected(self: Registry, school: str, sender: str, receiver: str, service: str, _: str, *rest: Any) -> bool:
        return any(real(self, school, sender, receiver, service, process, *rest) for process in PROCESSES)

    return connected


def first_role_only(real: Callable[..., Any]) -> Callable[..., Any]:
    """A party with several roles acts in the first of them, open or not."""

    def best(q: Any, family: Any, school: Any, registry: Registry, routes: Any, candidate: str) -> Any:
        roles = registry.parties[candidate].roles if candidate in registry.parties else ()
        first = next((r.receiver_role for r in routes if r.receiver_role in roles), None)
        return real(q, family, school, registry, [r for r in routes if r.receiver_role == first], candidate)

    return best


def last_role_first(real: Callable[..., Any]) -> Callable[..., Any]:
    """The table's order says nothing."""
    return lambda q, family, school, registry, routes, candidate: real(
        q, family, school, registry, tuple(reversed(routes)), candidate
    )


def by_senders_clock(real: Callable[..., Any]) -> Callable[..., Any]:
    """Today is the day on which the event says that it was made."""
    return lambda event, person, closing, _day: real(event, person, closing, day_of(event.envelope["created"]))


def all_closing(real: Callable[..., Any]) -> Callable[..., Any]:
    """Every kind closes something."""
    days = Closing(days=400)
    return lambda q, family, school, registry, route, party: real(
        q, family, school, registry, route.model_copy(update={"closing": route.closing or days}), party
    )


def untold(real: Callable[..., Any]) -> Callable[..., Any]:
    """What could not be told counts as told."""
    return lambda *errand: real(*errand) or True


def forgetful(real: Callable[..., Any]) -> Callable[..., Any]:
    """What was told before is not known."""
    return lambda state, *rest: real(LaneState(state.lane), *rest)


def few(test: Callable[..., None], most: int) -> None:
    """A test that changes a limit itself."""
    with Patch.context() as patch:
        test(patch, most)


def both(*removals: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Several at once."""

    def remove(patch: Patch) -> None:
        for one in removals:
            one(patch)

    return remove


# ---- checks


def ordered(test: Callable[..., None], *arguments: Any) -> Check:
    """A test of the order of kinds, with a world of its own."""
    return lambda: test(test_objects.all_roles(), *arguments)


def seeds(test: Callable[..., None], *arguments: Any) -> Check:
    """A test of what is answered to a SEED_REQUEST, with a world of its own."""
    return lambda: test(test_seeds.schools_world(), *arguments)


def opened(test: Callable[..., None], *arguments: Any) -> Check:
    """A test in a world in which everything is granted."""
    return lambda: test(open_world(), *arguments)


def missing(name: str) -> Check:
    """A row of the table of missing conditions."""
    return of(test_conditions.test_a_condition_that_is_missing_takes_away_what_hangs_on_it_and_nothing_else, name)


def who(name: str, kind: str) -> Check:
    """A row of the table of who may say what."""
    return of(test_switch.test_who_may_say_what_for_which_side, name, kind)


def term(what: str, ago: int) -> Check:
    """A cell of the table of terms."""
    return of(
        test_closing.test_what_closes_something_passes_within_the_term_of_its_route_and_not_a_day_longer, what, ago
    )


def consent(person: Person, product: str) -> Check:
    """Somebody without the consent that is needed."""
    return of(test_conditions.test_a_free_tool_needs_consent_for_who_is_under_16_or_may_be, person, product, False)


PURE_TERM = "(today - ended).days > route.closing.days"

RULES = (
    # the order of an object
    Mutant("order of kinds", stub(objects, "kind_codes", lambda _: Anything()), ordered(test_objects.test_a_refused_transition_names_the_kind_and_is_one_answer_for_all)),
    Mutant("order of kinds, all pairs", stub(objects, "kind_codes", lambda _: Anything()), ordered(test_objects.test_a_kind_comes_after_those_that_its_schema_names_and_after_no_other, "result", "in one batch")),
    Mutant("stale revisions", wrapped(pipeline, "check_order", never_stale), ordered(test_objects.test_a_revision_that_is_not_higher_is_stale, "result")),
    Mutant("again for everybody", rewritten(pipeline, "check_order", ' and event.envelope["receiver"] is not None', ""), ordered(test_objects.test_the_same_once_more_passes_to_a_named_receiver_only, "licence", "GRANT")),
    Mutant("order that was not checked", wrapped(pipeline, "check_order", checked), ordered(test_objects.test_an_object_that_nobody_spoke_of_begins_with_a_first_kind_or_unchecked, "licence")),
    Mutant("objects moved by refusals", wrapped(_Batch, "_follows", moved_at_once), of(test_objects.test_an_event_that_nobody_got_does_not_move_the_object, "a receiver without topic")),
    Mutant("objects moved by repeats", rewritten(_Batch, "_steps", "if fresh and not repeated else None", "if fresh else None"), of(test_objects.test_a_receiver_that_missed_an_event_gets_it_when_it_is_sent_again)),
    Mutant("objects after a take-over", wrapped(LaneState, "records", without(b"#@")), of(test_objects.test_the_memory_is_bounded_and_holds_the_newest_in_every_position_of_the_ring)),
    Mutant("bound of the object memory", stub(ObjectMemory, "_forget", nothing), of(test_objects.test_the_memory_is_bounded_and_holds_the_newest_in_every_position_of_the_ring)),
    Mutant("school of an object", rewritten(pipeline, "object_id", "{event.school.id}\\x00", ""), of(test_objects.test_an_object_is_one_senders_of_one_school_and_family, "another school")),
    Mutant("family of an object", rewritten(pipeline, "object_id", "{event.family.name}\\x00", ""), of(test_objects.test_an_object_is_one_senders_of_one_school_and_family, "another family")),
    Mutant("first versions", rewritten(pipeline, "check_order", "if last is None and corrects and", "if False and"), of(test_corrections.test_a_first_version_is_delivered_and_not_remembered, "USE")),
    Mutant("seeds without a request", stub(pipeline, "answers_seed", always), seeds(test_seeds.test_what_answers_no_request_is_held_against_the_order, "none")),
    Mutant("seeds of one link for all", rewritten(pipeline, "answers_seed", "== correlation", "!= ''"), seeds(test_seeds.test_what_answers_no_request_is_held_against_the_order, "a request of a link that was switched since")),
    Mutant("seeds of what ended", rewritten(pipeline, "told_before", " or last.kind in kind_codes(family.ending)", ""), seeds(test_seeds.test_an_object_that_ended_is_not_told_any_more)),
    Mutant("seeds that move the memory back", rewritten(_Batch, "_follows", 'return None, "ok"  #', 'return check_order(event, None)[0], "ok"  #'), seeds(test_seeds.test_a_licence_that_is_blocked_is_told_with_what_is_blocked)),
    # closing
    Mutant("term after an agreement", wrapped(Registry, "ended_agreement", lambda real: lambda self, a, b, c, d, e, _days, **k: real(self, a, b, c, d, e, 10**6, **k)), term("agreement", 63)),
    Mutant("term after a link", rewritten(authorise, "_gates", PURE_TERM, "False"), term("link", 63)),
    Mutant("term after a departure", rewritten(minimise, "check_left", "day - left_on > closing.days", "False"), term("enrolment", 63)),
    Mutant("term that ends at midnight", wrapped(Registry, "ended_agreement", lambda real: lambda self, a, b, c, d, e, _days, **k: real(self, a, b, c, d, e, 10**6, **k)), of(test_closing.test_the_term_ends_at_midnight_though_the_registry_stands_still, "agreement")),
    Mutant("dated before the end", stub(authorise, "_dated_before_end", never), of(test_closing.test_what_happened_after_the_end_does_not_pass_where_the_route_says_so, "agreement", "gate.ended")),
    Mutant("dated before the departure", rewritten(minimise, "check_left", "closing.dated_before_end and", "False and"), of(test_closing.test_what_happened_after_the_end_does_not_pass_where_the_route_says_so, "enrolment", "subject.left")),
    Mutant("the earlier end", rewritten(authorise, "_gates", "min(agreement.valid_until, ended or agreement.valid_until)", "agreement.valid_until"), of(test_closing.test_the_earlier_of_two_ends_counts)),
    Mutant("clock of the sender, of who left", wrapped(minimise, "check_left", by_senders_clock), of(test_closing.test_a_senders_clock_opens_nothing, "enrolment", 63)),
    Mutant("what is not dated", rewritten(Opened, "happened_by", "return False", "return True"), of(test_closing.test_what_does_not_say_when_it_happened_is_not_dated_before_the_end, "agreement", "gate.ended")),
    Mutant("mandate of a link", stub(School, "mandate_over", nothing), of(test_closing.test_a_link_counts_to_midnight_of_the_mandates_last_day)),
    Mutant("the earlier end, of mandate and link", rewritten(authorise, "_link_ended", "min(revoked, mandate_over)", "revoked"), of(test_closing.test_of_a_mandate_that_is_over_and_a_link_that_was_revoked_the_earlier_end_counts, 10, 5)),
    Mutant("links that were never on, of a mandate", rewritten(authorise, "_link_ended", "revoked if revoked is None", "mandate_over if revoked is None"), of(test_closing.test_the_end_of_a_mandate_opens_no_link_that_was_never_on, "offered")),
    Mutant("seeds under a mandate that is over", rewritten(duties, "_seeds", " or school.mandate_over(today) is not None", ""), of(test_duties.test_a_link_is_seeded_only_while_the_mandate_lasts_under_which_it_was_accepted)),
    Mutant("only what it is about", stub(authorise.Target, "closing_only", lambda self, _: self), of(test_closing.test_what_closes_something_holds_nothing_but_what_it_is_about, "agreement")),
    Mutant("only what it is about, of who left", rewritten(pipeline, "passing", "check_left(event, person, closing, day):\n        target = target.closing_only(essential)", "check_left(event, person, closing, day):\n        pass"), of(test_closing.test_what_closes_something_holds_nothing_but_what_it_is_about, "enrolment")),
    Mutant("kinds that close nothing", wrapped(authorise, "_gates", all_closing), of(test_closing.test_what_closes_nothing_stops_at_once, "link")),
    Mutant("links that never counted", stub(ConnectionSide, "counts", always), of(test_closing.test_a_revoked_link_that_did_not_count_or_was_about_something_else_closes_nothing, "accepted without a mandate")),
    Mutant("links offered anew", stub(ConnectionSide, "acceptances", lambda self: (self,) if self.state in ("accepted", "revoked") else ()), of(test_closing.test_no_party_of_a_link_ends_its_term_by_a_new_offer, "publisher-a", "SENDER")),
    Mutant("links that were never on", stub(links, "_was_on", always), of(test_switch.test_a_link_that_was_never_on_has_no_closing_term, None)),
    Mutant("links never accepted", stub(ConnectionSide, "acceptances", lambda self: (self,)), of(test_closing.test_a_revoked_link_that_did_not_count_or_was_about_something_else_closes_nothing, "never accepted")),
    Mutant("Dutch day of a revocation", stub(connections, "date_at", lambda at: at.astimezone(UTC).date()), of(test_closing.test_the_last_day_of_a_link_is_a_day_in_the_netherlands, "23:00:00", 0)),
    Mutant("agreements about something else", rewritten(Registry, "ended_agreement", "and agreement.is_for(school, product, process, location)", ""), of(test_closing.test_an_agreement_that_was_about_something_else_closes_nothing, "of another product")),
    # routes and roles
    Mutant("subject rule of a route", rewritten(authorise, "_gates", 'route.subject != "optional"', "False"), opened(test_routes.test_a_route_says_whether_an_event_must_may_or_must_not_be_about_somebody, "order")),
    Mutant("process of a connection", wrapped(Registry, "connected", any_process), of(test_roles.test_a_link_in_another_process_does_not_carry_it)),
    Mutant("several roles", wrapped(authorise, "_best", first_role_only), of(test_roles.test_when_a_gate_of_the_first_role_is_closed_it_acts_in_the_next)),
    Mutant("order of roles", wrapped(authorise, "_best", last_role_first), of(test_roles.test_of_two_roles_that_get_an_event_the_one_that_stands_first_in_the_table_is_taken, False)),
    Mutant("open before closing", rewritten(authorise, "_best", "if found.ended is None:", "if True:"), of(test_roles.test_a_way_that_is_open_goes_before_one_that_only_closes)),
    Mutant("roles of the sender", rewritten(authorise, "_authorise", "q.kind, sender.roles)", 'q.kind, ("SIS", "SHOP", "PUBLISHER", "PORTAL"))'), of(test_roles.test_a_role_that_a_sender_lost_carries_nothing_any_more, "SHOP")),
    Mutant("whom a link concerns", rewritten(authorise, "_candidates", "if family.addressees:", "if False:"), of(test_switched.test_both_parties_hear_of_it_and_so_does_the_school)),
    # locations and former numbers
    Mutant("location of a link", stub(ConnectionSide, "covers", lambda self, product, *_: product is None or self.products == "all" or product in self.products), of(test_locations.test_a_link_for_a_location_carries_what_names_that_location_and_nothing_else, "this location")),
    Mutant("location of an agreement", rewritten(Agreement, "is_for", "location in self.schools", "True"), of(test_locations.test_an_agreement_for_a_location_covers_what_names_that_location, "this location")),
    Mutant("locations that a party serves", wrapped(Registry, "serves", lambda real: lambda self, party, school, on=None: real(self, party, school[:4], on)), of(test_locations.test_a_party_of_one_location_does_not_serve_the_others)),
    Mutant("former number of another school", rewritten(swap, "_find", "*event.school.formerly", '*event.school.formerly, "99PA"'), lambda: test_locations.test_a_former_number_is_one_schools_own(enrolled())),
    # people and what is said about them
    Mutant("pupil or employee", rewritten(check, "_check_subject", "rules.who is not None", "False"), opened(test_people.test_a_kind_that_is_about_a_pupil_is_not_about_an_employee_and_the_other_way_round)),
    Mutant("who is named in a body", stub(pipeline, "check_people", nothing), of(test_people.test_whom_a_body_names_must_be_an_employee_of_this_school, "teacher_eck_id", "of another school")),
    Mutant("pupils named as employees", rewritten(pipeline, "check_people", 'or person.kind != "EMPLOYEE"', ""), of(test_people.test_whom_a_body_names_must_be_an_employee_of_this_school, "teacher_eck_id", "a pupil")),
    Mutant("consent", stub(minimise, "has_consent", always), consent(Person(), FREE)),
    Mutant("consent for this product", rewritten(minimise, "has_consent", "p in given", "given"), consent(Person(consents=(BOOK,)), FREE)),
    Mutant("age that nobody told", rewritten(minimise, "has_consent", "person.flags.under_16 is False", "not person.flags.under_16"), consent(Person(under_16=None), FREE)),
    Mutant("consent and dated results", rewritten(pipeline, "passing", " or closing.dated_before_end", ""), of(test_closing.test_without_consent_only_what_closes_something_passes_and_only_what_it_is_about)),
    Mutant("condition: digital line", met("digital-line"), missing("a line on paper")),
    Mutant("condition: home delivery", met("home-delivery"), missing("delivery at school")),
    Mutant("condition: no school account", met("no-school-account"), missing("a school account")),
    Mutant("condition: no word of an account", rewritten(minimise, "conditions_met", "flags.school_account is False", "not flags.school_account"), missing("no word of a school account")),
    Mutant("condition: parents informed", met("parents-informed"), missing("parents who were not informed")),
    Mutant("condition: no objection", met("no-objection"), missing("an objection")),
    Mutant("condition: no ECK iD", met("no-eck-id"), of(test_conditions.test_a_local_id_passes_only_for_a_pupil_without_eck_id)),
    Mutant("presence in the audit", wrapped(pipeline, "passing", filled_only), of(test_conditions.test_what_is_filled_in_changes_neither_what_was_kept_nor_what_was_dropped)),
    Mutant("end of an exception", stub(TemporaryException, "lasts", always), of(test_exceptions.test_an_exception_holds_from_its_first_to_its_last_day, 11, False)),
    Mutant("end of local ids", stub(Agreement, "named", lambda self, _: self.attributes), of(test_exceptions.test_local_ids_pass_until_their_last_day, 1, False)),
    # codes and classes
    Mutant("form of a code", stub(check, "_CODE", re.compile(r".*", re.DOTALL)), opened(test_codes.test_what_is_no_code_is_refused_in_every_business_field, "Emma de Vries")),
    Mutant("form of a code inside a record", stub(Family, "texts", property(codes_at_the_top)), opened(test_codes.test_what_is_no_code_is_refused_in_every_business_field, "Emma de Vries")),
    Mutant("nine digits", stub(check, "_NINE", NEVER_MATCHES), opened(test_codes.test_what_is_no_code_is_refused_in_every_business_field, "123456789")),
    Mutant("PGN in a code", stub(check, "find_pgn", nothing), opened(test_codes.test_what_is_no_code_is_refused_in_every_business_field, "PO-182071649")),
    Mutant("attributes inside another", rewritten(model, "_check_inside", 'declared.get("attribute", attribute) != attribute', "False"), of(test_nested.test_a_field_inside_another_can_not_name_an_attribute_of_its_own)),
    Mutant("attributes inside none", rewritten(model, "_check_inside", "!= attribute", "!= attribute and attribute"), of(test_nested.test_a_business_field_holds_nothing_of_a_person)),
    # connections
    Mutant("mandate of the SIS", stub(School, "mandated", always), who("the SIS before its mandate", "ACCEPT")),
    Mutant("mandate of a party", rewritten(pipeline, "switched", 'kind == "ACCEPT" or ', ""), who("who sends over the link", "ACCEPT")),
    Mutant("own side", rewritten(pipeline, "switched", "any(own[side] != sender for side in sides)", "False"), who("who sends over the link", "REVOKE")),
    Mutant("strangers to a link", wrapped(pipeline, "switched", sent_by_whom_it_concerns), who("a stranger to the link", "OFFER")),
    Mutant("transitions of a link", any_state, of(test_switch.test_every_kind_is_held_against_the_state_of_the_side, "OFFER", "accepted")),
    Mutant("two links of one id", rewritten(switch, "_check_id", "side.about() != about", "False"), of(test_switch.test_an_id_stands_for_one_link, "another school", BOTH)),
    Mutant("two links of one id, across", wrapped(pipeline, "switched", one_side_seen), of(test_switch.test_an_id_stands_for_one_link, "another receiver", ("receiver",))),
    Mutant("links that can not be", stub(switch, "_check_link", nothing), of(test_switch.test_a_link_that_can_not_be_is_refused, "a service between other roles")),
    Mutant("clock of the sender", wrapped(pipeline, "switched", clock_of_sender), of(test_switch.test_a_senders_clock_decides_nothing, -300)),
    Mutant("own writes to the registry", stub(SwitchBoard, "registry", property(lambda self: self._registry)), lambda: test_switched.test_the_next_event_of_the_batch_sees_what_was_switched(enrolled())),
    Mutant("refused and told anyway", wrapped(_Batch, "_sides", told_anyway), of(test_switch.test_a_link_that_can_not_be_is_refused, "a service between other roles")),
    Mutant("ids of new links", rewritten(switch, "_check_id", "is_uuid(connection)", "connection"), of(test_switch.test_a_link_that_an_event_brings_up_has_a_uuid, "a code", "OFFER")),
    Mutant("ids of new links, case", rewritten(switch, "_check_id", "connection == connection.lower()", "True"), of(test_switch.test_a_link_that_an_event_brings_up_has_a_uuid, "upper case", "ACCEPT")),
    Mutant("accepted for fewer products", stub(switch, "_covers_all", always), of(test_switch.test_a_link_that_both_sides_accept_is_on_for_all_products_that_are_named, [BOOK], None, "object.transition")),
    Mutant("ends of links", stub(ConnectionSide, "ending", nothing), of(test_switch.test_a_side_that_was_revoked_keeps_how_it_ended_until_it_is_revoked_again)),
    Mutant("changes on the control log", stub(Journal, "control", nothing), of(test_switched.test_record_and_control_leaf_stand_in_one_transaction)),
    # suspension
    Mutant("suspended senders", rewritten(pipeline, "check_envelope", "if registry.suspended(record.party):", "if False:"), of(test_suspension.test_a_suspended_sender_is_refused_whatever_it_sends, None)),
    Mutant("suspended receivers", rewritten(authorise, "_best", "if registry.suspended(candidate)", "if False"), of(test_suspension.test_a_suspended_receiver_gets_nothing_and_its_peers_go_on)),
    Mutant("suspended receivers of what was parked", rewritten(authorise, "_best", "return shut_out or found", "return found"), of(test_suspension.test_what_was_parked_is_refused_when_its_sender_or_receiver_is_suspended_meanwhile, PORTAL, "receiver.suspended")),
    Mutant("suspended receivers of what closes", rewritten(authorise, "_best", "(shut_out if closing and shut_out else closing)", "closing"), of(test_suspension.test_what_closes_something_does_not_reach_a_suspended_receiver_either)),
    Mutant("who learns of a suspension", rewritten(authorise, "_best", "(shut_out if closing and shut_out else closing)", "shut_out or closing"), of(test_suspension.test_who_could_not_deliver_learns_nothing_of_a_suspension)),
    Mutant("duties of suspended parties", rewritten(pipeline, "run_errand", " or journal.registry.suspended(party)", ""), of(test_suspension.test_a_suspended_party_is_told_its_duties_once_it_is_resumed)),
    Mutant("who is resumed by now", rewritten(pipeline, "same_moment", "and one.suspensions is other.suspensions", ""), of(test_suspension.test_a_suspended_party_is_told_its_duties_once_it_is_resumed)),
    Mutant("seeds for suspended parties", rewritten(duties, "_seeds", "if registry.suspended(asked.receiver):", "if False:"), of(test_suspension.test_nobody_is_asked_to_seed_a_suspended_receiver_until_it_is_resumed)),
    # parking
    Mutant("looks at those who arrived", rewritten(_Batch, "release", "self.parking.keys() if self.views.arrived is None else self.views.arrived", "self.parking.keys()"), of(test_parking.test_a_batch_asks_the_vault_for_nobody_who_waits_but_those_who_arrived)),
    # duties
    Mutant("duties told once", both(wrapped(pipeline, "due", forgetful), stub(pipeline, "same_moment", never)), of(test_duties.test_the_sender_of_each_link_is_asked_once_to_seed_its_receiver, DELTA)),
    Mutant("duties after a take-over", wrapped(LaneState, "records", without(b"#!")), of(test_duties.test_what_was_told_stays_told_after_a_take_over)),
    Mutant("lanes with duties", stub(pipeline, "duties_of", lambda lane: lane.split(".")[2]), of(test_duties.test_only_the_first_lane_of_a_party_has_its_duties, 1)),
    Mutant("links for one seed", rewritten(duties, "_entitlement", "sender.service, products", "sender.id, products"), of(test_duties.test_links_in_two_processes_that_come_on_together_are_one_request)),
    Mutant("links switched on anew", rewritten(duties, "_seeds", 'state.duties.get(f"{SEED}{connection}") == marker', 'f"{SEED}{connection}" in state.duties'), of(test_duties.test_a_link_that_was_off_and_on_again_between_two_looks_is_seeded_anew)),
    Mutant("agreements renewed", rewritten(duties, "_destructions", "_in_the_place_of(known.get(name), running)", "False"), of(test_duties.test_an_agreement_that_was_renewed_asks_nothing, "a new agreement")),
    Mutant("locations renewed", rewritten(duties, "_destructions", "(place, school.id)", "(school.id,)"), of(test_duties.test_a_location_is_held_by_an_agreement_for_it_or_for_its_school, "a location, renewed")),
    Mutant("agreements asked once", rewritten(duties, "_destructions", "marker.startswith(ASKED)", "False"), of(test_duties.test_the_end_of_an_agreement_asks_once_to_destroy_what_it_covered)),
    Mutant("controllers", rewritten(duties, "_destructions", ' if a.position == "processor"', ""), of(test_duties.test_a_controller_of_its_own_is_asked_nothing)),
    Mutant("who could not be told", wrapped(pipeline, "run_errand", untold), of(test_errand.test_who_can_not_be_told_yet_is_told_once_he_can, test_errand.no_topic)),
    Mutant("who has a key by now", rewritten(pipeline, "same_moment", "and one.party is other.party", ""), of(test_errand.test_who_can_not_be_told_yet_is_told_once_he_can, test_errand.no_keys)),
    Mutant("who has a topic by now", rewritten(_Batch, "do_duties", " and not (seen and seen.untold and self._has_topic(party))", ""), of(test_errand.test_who_can_not_be_told_yet_is_told_once_he_can, test_errand.no_topic)),
    Mutant("many duties", stub(Duties, "cut", lambda self: self), lambda: few(test_errand.test_many_duties_are_told_in_several_transactions, 3)),
    Mutant("confirmations", rewritten(pipeline, "destruction_leaves", "if kind == DESTROYED:", "if False:"), of(test_errand.test_what_a_party_confirmed_stands_beside_what_was_asked)),
    Mutant("confirmations of what nobody got", rewritten(pipeline, "destruction_leaves", " or not receivers", ""), of(test_errand.test_a_confirmation_that_was_refused_confirms_nothing, {"receiver": SHOP})),
    Mutant("requests of a school", stub(pipeline, "destruction_leaves", lambda *_: ()), of(test_errand.test_what_a_school_asks_to_destroy_stands_on_the_control_log_as_what_the_broker_asks)),
    Mutant("agreements of others on the control log", rewritten(errand, "_agreement", " and its.board == board", ""), of(test_errand.test_a_request_names_only_an_agreement_that_the_registry_knows_as_the_receivers, "vwo-vo-portaal")),
)  # fmt: skip
