"""Tests of `broker.audit.ldv` and `broker.audit.conformance`: each MUST of the Logboek, and what the exchange writes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.conformance import Conformance
from broker.audit.ldv import OTHERS, RULES, LdvLine, Status, entry_of, line_of, violations
from broker.audit.leaf import canonical, control_leaf
from broker.errors import ContractError
from tests.audit.lines import DELIVERED, OUTCOMES, PERSONAL, RECEIVED, changed, with_attributes, written

TEXTS = {rule.name: rule.text for rule in RULES}
TYPE = "dpl__core__data_subject_id_type"
ONE_MS_TOO_MANY = 18_446_744_073_710  # times a million it has 65 bits

# Rule -> leaves that break it and no other.
BROKEN: dict[str, list[bytes]] = {
    "fields": [
        changed(name=None), changed(attributes=None), changed(status=None), changed(trace_id=None),
        changed(operation_id="1"), changed(status_code="OK"), changed(extra=1),
    ],
    "trace": [changed(trace_id=value) for value in ("4BF92F3577B34DA6A3CE929D0E0E4736", "14", "0" * 32, 14, "4" * 31)],
    "span": [changed(span_id=value) for value in ("14", "0" * 16, "zz" * 8, 14, "4" * 17, ["53995c3f42cd8ad8"])],
    "parent": [changed(parent_span_id=value) for value in ("14", "0" * 16, 14, "53995c3f42cd8ad8", "00f067aa0ba902b7\n")],
    "status": [changed(status=value) for value in ("error", "unset", "OK", 0, "", ["Unset"])],
    "name": [changed(name=value) for value in ("", "  ", 1, ["verstrekt"])],
    "start": [changed(start_time=value) for value in ("2026-11-24T09:00:00Z", -1, True, ONE_MS_TOO_MANY)],
    "end": [changed(end_time=value) for value in ("2026-11-24T09:00:00Z", -1, True, ONE_MS_TOO_MANY)],
    "order": [changed(start_time=2, end_time=1)],
    "resource": [
        changed(resource=value) for value in ("broker", {}, {"attributes": []}, {"attributes": {"service.version": 1}},
                                              {"attributes": {}, "kind": "x"}, {"service.name": "broker"})
    ],
    "users": [with_attributes(enduser__id="x"), changed(resource={"attributes": {"user.name": "x"}})],
    "attributes": [changed(attributes=value) for value in ([], "dpl", 1)],
    "namespace": [with_attributes(**{name: "x"}) for name in (
        "dpl__integrity__leaf_hash", "dpl__core__other", "school", "http__url", "dpl__read__externalReadAPI_id",
    )],
    "texts": [with_attributes(**{TYPE: value}) for value in ("", 1, ["x"])],
    "activity": [with_attributes(dpl__core__processing_activity_id=value) for value in (None, "", "lm-bestellen", 3)],
    "subjects": [with_attributes(dpl__core__data_subject_id=["vKOM-TKZi5N-TG44JZd-rA", "pv2HXOyNuqj06ALvgBRk-A"])],
    "subject": [
        with_attributes(dpl__core__data_subject_id=value)
        for value in ("182071649", "https://ketenid.nl/pilot/e1", "", "vKOM-TKZi5N-TG44JZd-rB", "vKOM-TKZi5N-TG44JZd-rA=")
    ],
    "typed": [with_attributes(**{TYPE: None}), with_attributes(dpl__core__data_subject_id=None)],
    "processor": [
        with_attributes(dpl__core__foreign_operation__processor=value)
        for value in ("lev-b", "ftp://lev.example/", "https://", 1, "https://[", ["https://lev.example/"])
    ],
    "fault": [
        changed(status="Error"), with_attributes(exception__message="m"),
        with_attributes(exception__message="m", exception__type="t"),
    ],
    "stacktrace": [with_attributes(exception__stacktrace="File x, line 1")],
}  # fmt: skip


def test_there_is_a_broken_leaf_for_every_rule() -> None:
    """And no two rules have one name or one text."""
    assert set(BROKEN) == set(TEXTS) == {rule.name for rule in RULES}
    assert len(set(TEXTS.values())) == len(RULES) == len(TEXTS)


@pytest.mark.parametrize(
    ("rule", "leaf"), [(rule, leaf) for rule, leaves in BROKEN.items() for leaf in leaves],
    ids=[f"{rule}-{number}" for rule, leaves in BROKEN.items() for number, _ in enumerate(leaves)],
)  # fmt: skip
def test_a_leaf_that_breaks_one_rule_breaks_exactly_that(rule: str, leaf: bytes) -> None:
    """Told in the words of the rule; such a line is not read."""
    assert violations(leaf) == [TEXTS[rule]]
    with pytest.raises(ContractError) as caught:
        line_of(leaf)
    assert caught.value.code == "ldv.line"
    assert TEXTS[rule] in str(caught.value)


def test_a_line_that_breaks_several_rules_is_told_them_all() -> None:
    """In one go, so that one look is enough."""
    assert violations(changed(status="error", name="")) == [TEXTS["status"], TEXTS["name"]]


def test_a_fault_is_told_with_message_and_type() -> None:
    """That is how an internal error conforms; the broker writes none so far."""
    document = json.loads(with_attributes(exception__message="m", exception__type="t"))
    document["ldv"]["status"] = "Error"
    assert violations(canonical(document)) == []
    assert line_of(canonical(document)).status is Status.ERROR


# ---- what conforms


def test_the_lines_of_the_design_are_read_field_by_field() -> None:
    """Ids are bytes, times are milliseconds, attributes stand by name."""
    line = line_of(DELIVERED)
    assert line == LdvLine(
        trace_id=bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"),
        span_id=bytes.fromhex("53995c3f42cd8ad8"),
        parent_span_id=bytes.fromhex("00f067aa0ba902b7"),
        status=Status.UNSET,
        name="Bestelling verstrekt aan leverancier",
        start_ms=1795305600001,
        end_ms=1795305600002,
        attributes=(
            ("dpl.core.data_subject_id", "vKOM-TKZi5N-TG44JZd-rA"),
            ("dpl.core.data_subject_id_type", "https://broker.example/begrippen/subject-token/v1"),
            ("dpl.core.foreign_operation.processor", "https://leverancier.example/"),
            ("dpl.core.processing_activity_id", "https://register.bestuur.example/verwerkingen/lm-bestellen/3"),
        ),
        resource=(("service.name", "broker"), ("service.version", "0.1.0")),
    )
    assert line_of(RECEIVED).span_id == line.parent_span_id
    assert line.attribute("dpl.core.other") is None


@pytest.mark.parametrize("field", ["parent_span_id", "resource"])
def test_what_is_not_required_may_be_absent(field: str) -> None:
    """By the standard's table."""
    assert violations(changed(**{field: None})) == []


def test_leaves_of_every_outcome_conform() -> None:
    """As the exchange writes them; each has a span of its own."""
    leaves = written()
    assert {json.loads(leaf)["x"]["decision"] for leaf in leaves} == OUTCOMES
    with Conformance() as conformance:
        assert [conformance.look(str(number), leaf) for number, leaf in enumerate(leaves)] == [[]] * len(leaves)
    assert conformance.kinds == {"ldv": len(leaves)}
    assert {entry_of(leaf).school for leaf in leaves} >= {None, "99PA"}


def test_a_person_is_in_a_line_as_a_token_only() -> None:
    """Of known people, and of those that an event only names."""
    text = b"".join(written())
    assert b"dpl.core.data_subject_id" in text
    assert [value for value in PERSONAL if value.encode() in text] == []


# ---- other leaves, and no leaves


@pytest.mark.parametrize("kind", OTHERS)
def test_a_leaf_about_the_log_is_no_line_and_breaks_nothing(kind: str) -> None:
    """It is told what it is instead."""
    leaf = canonical({kind: {"at": 1}, "v": 1})
    assert violations(leaf) == []
    assert entry_of(leaf).kind == kind
    assert entry_of(leaf).line is None
    with pytest.raises(ContractError, match=OTHERS[kind]) as caught:
        line_of(leaf)
    assert caught.value.code == "ldv.other"


def test_a_control_leaf_is_known_as_it_is_written() -> None:
    """By the function that the broker uses."""
    assert entry_of(control_leaf("incident", {"at": 1})).kind == "control"


def _document(**members: Any) -> bytes:
    return canonical(json.loads(DELIVERED) | members)


NO_LEAVES = {
    "empty": b"", "no json": b"Emma de Vries", "no object": b"[]", "a number": b"1", "not utf-8": b'{"v":"\xff"}',
    "white space": DELIVERED.replace(b",", b", ", 1), "a name twice": DELIVERED.replace(b'"v":1', b'"v":1,"v":1'),
    "a float": DELIVERED.replace(b'"v":1', b'"v":1.0'), "not a number": b'{"control":{"at":NaN},"v":1}',
    "half a surrogate": b'{"control":{"at":"\\ud800"},"v":1}', "deep": b"[" * 200_000, "long number": b"1" * 10_000,
    "another version": _document(v=2), "version as text": _document(v="1"), "version as bool": _document(v=True),
    "one member more": _document(y={}), "evidence of another type": _document(x=[]), "line of another type": _document(ldv=[]),
    "without evidence": canonical({"ldv": json.loads(DELIVERED)["ldv"], "v": 1}), "nothing": canonical({"v": 1}),
    "unknown kind": canonical({"other": {}, "v": 1}), "two kinds": canonical({"key": {}, "count": {}, "v": 1}),
    "a kind with evidence": canonical({"key": {}, "x": {}, "v": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_LEAVES)
def test_what_is_no_leaf_is_told_without_a_word_of_it(case: str) -> None:
    """One sentence, whatever it was."""
    (told,) = violations(NO_LEAVES[case])
    with pytest.raises(ContractError) as caught:
        entry_of(NO_LEAVES[case])
    assert caught.value.code == "ldv.leaf"
    assert str(caught.value) == told
    assert "Emma" not in told


SECRET = "Emma de Vries 182071649"


@pytest.mark.parametrize("name", ["trace_id", "span_id", "parent_span_id", "status", "resource", "attributes", SECRET])
def test_what_is_told_of_a_line_never_quotes_it(name: str) -> None:
    """Neither a value nor a name that is not the standard's."""
    told = violations(changed(**{name: SECRET}))
    assert told
    assert not any("Emma" in sentence or "182071649" in sentence for sentence in told)


@given(st.dictionaries(st.sampled_from(sorted(json.loads(DELIVERED)["ldv"])), st.recursive(
    st.none() | st.booleans() | st.integers(-10, 2**53 - 1) | st.text("ab0-:/.", max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["attributes", "dpl.core.data_subject_id", "user.x"]), inner, max_size=2),
    max_leaves=4,
)))  # fmt: skip
def test_any_line_is_read_or_told_what_it_breaks(fields: dict[str, Any]) -> None:
    """Nothing else happens, whatever stands in it; what is read conforms."""
    leaf = canonical({"ldv": json.loads(DELIVERED)["ldv"] | fields, "v": 1, "x": {}})
    if violations(leaf):
        with pytest.raises(ContractError):
            line_of(leaf)
    else:
        assert isinstance(line_of(leaf), LdvLine)


# ---- a whole log


def test_a_second_line_with_the_same_span_is_told_with_the_place_of_the_first() -> None:
    """The standard has one line for each span_id."""
    with Conformance() as conformance:
        assert conformance.look("audit.events/0@3", DELIVERED) == []
        assert conformance.look("audit.events/0@4", RECEIVED) == []
        (told,) = conformance.look("audit.events/1@9", changed(trace_id="1" * 32))
        assert told == "One line for each span_id: the line audit.events/0@3 has the same one."


def test_leaves_are_counted_by_kind() -> None:
    """Lines, also those that break a rule; leaves about the log; and what is no leaf at all."""
    window = canonical({"window": {}, "v": 1})
    with Conformance() as conformance:
        told = [conformance.look("p", leaf) for leaf in (DELIVERED, changed(name="", status="x"), window, window, b"?")]
    assert conformance.kinds == Counter({"ldv": 2, "window": 2, "unknown": 1})
    assert list(map(len, told)) == [0, 2, 0, 0, 1]
