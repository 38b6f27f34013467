"""Tests of `broker.audit.leaf`: golden values, canonical form, ids from `traceparent`."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.leaf import (
    Commitments,
    Form,
    Hole,
    Ids,
    b64url,
    canonical,
    commitment,
    control_leaf,
    leaf,
    lookup_tag,
)
from tests.audit.histories import duties, history, leaves_of, waiting

TRACE, SPAN = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bytes.fromhex("53995c3f42cd8ad8")
SUBJECT_KEY = sha256(b"golden subject key").digest()
EMMA = Commitments(SUBJECT_KEY, Ids(TRACE, SPAN))

# The second example line of the audit design, section 1.2, as it stands there.
GOLDEN_LINE = (
    '{"ldv":{"attributes":{"dpl.core.data_subject_id":"vKOM-TKZi5N-TG44JZd-rA",'
    '"dpl.core.data_subject_id_type":"https://broker.example/begrippen/subject-token/v1",'
    '"dpl.core.foreign_operation.processor":"https://leverancier.example/",'
    '"dpl.core.processing_activity_id":"https://register.bestuur.example/verwerkingen/lm-bestellen/3"},'
    '"end_time":1795305600002,"name":"Bestelling verstrekt aan leverancier","parent_span_id":"00f067aa0ba902b7",'
    '"resource":{"attributes":{"service.name":"broker","service.version":"0.1.0"}},"span_id":"53995c3f42cd8ad8",'
    '"start_time":1795305600001,"status":"Unset","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"},"v":1,'
    '"x":{"agreement":"VWO-2026-017/4.0","decision":"delivered","dropped":["geboortedatum","geslacht"],'
    '"event":"order.v1","flow":"out/99XX/lev-b/BL/p3","kept":["eckId","productId","quantity"],'
    '"policy":"sha256:3937db80ed47059d40d8dcfabbf64ac836032e9741fab0d25f7115a1d0e4cb7d","seq":907,'
    '"value":"vMTQQFrieByHpGVA3ix1kgTWCadrp9HoK9pWSjmEZ_g"}}'
)


def test_the_golden_values_of_the_audit_design() -> None:
    """Token, salt, commitment and lookup tag for trace and span of section 1.2 (audit design, section 4)."""
    assert EMMA.token() == "vKOM-TKZi5N-TG44JZd-rA"
    assert EMMA.salt("out").hex() == "df67839fab8294cc7bd9d774adc19d44f65fef09b54f62877576bad607f3aaed"
    assert EMMA.value("out", b"filtered avro output") == "vMTQQFrieByHpGVA3ix1kgTWCadrp9HoK9pWSjmEZ_g"
    assert b64url(lookup_tag(SUBJECT_KEY)) == "KkB_L45vL_bpxhQykVlV_g"


def test_the_golden_line_is_canonical_and_has_its_leaf_hash() -> None:
    """972 bytes, leaf hash of section 2: `5661bf38…`; canonical() makes it again from its parsed JSON."""
    line = GOLDEN_LINE.encode()
    assert len(line) == 972
    assert canonical(json.loads(line)) == line
    assert sha256(b"\x00" + line).hexdigest() == "5661bf38ed1c70aac3eaac4412e1340c30d521f80a33f956a36ea659a82cb71a"


def test_a_receiver_can_check_a_commitment_with_the_salt_alone() -> None:
    """The salt came in the header `audit-salt`; the subject key stays with the broker."""
    assert commitment(EMMA.salt("out"), b"value") == EMMA.value("out", b"value")
    assert commitment(EMMA.salt("in"), b"value") != EMMA.value("out", b"value")


def test_a_person_has_another_token_in_every_event() -> None:
    """Without the subject key two leaves can not be linked."""
    others = [Ids(TRACE, b"otherspn"), Ids(b"another-trace-id", SPAN)]
    tokens = {EMMA.token(), *(Commitments(SUBJECT_KEY, ids).token() for ids in others)}
    tokens.add(Commitments(bytes(32), EMMA.ids).token())
    assert len(tokens) == 4
    assert all(len(token) == 22 for token in tokens)


# ---- canonical form

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner, max_size=4)
    ),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(st.characters(max_codepoint=127)), VALUES, max_size=5)
SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def written(value: Any) -> str:
    """RFC 8785 section 3.2, by hand: what `canonical` must be equal to."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(SHORT.get(ord(c), c if ord(c) >= 32 else f"\\u{ord(c):04x}") for c in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(f"{written(name)}:{written(value[name])}" for name in names) + "}"


@given(OBJECTS)
def test_canonical_is_rfc_8785_in_our_domain(value: dict[str, Any]) -> None:
    """Escapes, order of names and no white space, as section 3.2 has them; parsing gives the same object."""
    assert canonical(value) == written(value).encode()
    assert json.loads(canonical(value)) == value


@given(OBJECTS)
def test_canonical_is_equal_to_the_library(value: dict[str, Any]) -> None:
    """rfc8785 (Trail of Bits), where it is installed."""
    assert pytest.importorskip("rfc8785").dumps(value) == canonical(value)


@given(OBJECTS)
def test_canonical_does_not_depend_on_the_order_of_the_names(value: dict[str, Any]) -> None:
    """The same content is the same bytes."""
    assert canonical(dict(reversed(value.items()))) == canonical(value)


# ---- ids

GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def ids(traceparent: bytes | None, **other: Any) -> Ids:
    """Ids of one decision."""
    where = {"topic": "in.delta", "partition": 3, "offset": 41, "receiver": "portaal", **other}
    return Ids.of(traceparent=traceparent, **where)


@pytest.mark.parametrize("header", [GOOD, GOOD[:-2] + b"00", GOOD[:-2] + b"ff"])
def test_a_traceparent_is_taken_over(header: bytes) -> None:
    """Trace and parent from the sender, span from us; its flags do not count, since nothing is sampled away."""
    found = ids(header)
    assert found.trace == TRACE
    assert found.parent == bytes.fromhex("00f067aa0ba902b7")
    assert found.span == ids(None).span


BAD = {
    "none": None,
    "empty": b"",
    "short": GOOD[:-1],
    "long": GOOD + b"0",
    "newline": GOOD + b"\n",
    "version ff": b"ff" + GOOD[2:],
    "version 01": b"01" + GOOD[2:],
    "upper case": GOOD.upper(),
    "no hex in trace": GOOD.replace(b"4bf9", b"4bg9"),
    "white space in trace": GOOD.replace(b"4bf92f35", b"4bf92f  "),
    "white space in span": GOOD.replace(b"00f067aa", b"00f067  "),
    "no hex in flags": GOOD[:-2] + b"zz",
    "dashes elsewhere": GOOD.replace(b"-", b"_"),
    "zero trace": b"00-" + b"0" * 32 + GOOD[35:],
    "zero span": GOOD[:36] + b"0" * 16 + b"-01",
    "a number for a trace": b"00-" + b"182071649".rjust(32, b"0") + GOOD[35:],  # published test number of a BSN
    "a number for a span": GOOD[:36] + b"182071649".ljust(16, b"0") + b"-01",
    "not ascii": "00-４bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01".encode(),
    "personal data": b"Emma de Vries, leerling 12345, groep 7, De Regenboog!!!",
}


@pytest.mark.parametrize("case", BAD)
def test_any_other_traceparent_is_as_if_absent(case: str) -> None:
    """W3C Trace Context, section 3.2: lower case hex, version 00, no zeroes. Nothing of it gets into the leaf."""
    assert ids(BAD[case]) == ids(None)


@given(st.binary(max_size=60))
def test_any_bytes_as_traceparent_give_whole_ids(header: bytes) -> None:
    """16 and 8 bytes, never zero."""
    found = ids(header)
    assert (len(found.trace), len(found.span)) == (16, 8)
    assert any(found.trace)
    assert any(found.span)


def test_ids_follow_from_where_the_input_stands() -> None:
    """The same input gives the same ids, so a duplicate shows; another place or receiver gives another span."""
    assert ids(None) == ids(None)
    others = [
        ids(None, **change)
        for change in (
            {"topic": "in.oost"},
            {"partition": 4},
            {"offset": 42},
            {"receiver": "winkel"},
            {"receiver": None},
        )
    ]
    assert len({ids(None).span, *(o.span for o in others)}) == 6
    assert ids(None, receiver="winkel").trace == ids(None).trace
    # A receiver can not be written into the offset.
    assert ids(None, offset=4, receiver="1portaal").span != ids(None, offset=41).span


# ---- leaves


def test_a_leaf_is_a_strict_line_and_our_evidence_beside_it() -> None:
    """Logboek Dataverwerkingen 1.0.0 in `ldv`, nothing of ours in it; times are integers."""
    made = json.loads(
        leaf(
            ids=Ids(TRACE, SPAN, b"12345678"), name="usage verstrekt", activity="https://bestuur.example/Gebruik",
            processor="https://portaal.example/", token=EMMA.token(), start_ms=1, end_ms=2,
            evidence={"decision": "delivered"},
        )
    )  # fmt: skip
    assert set(made) == {"ldv", "v", "x"}
    assert set(made["ldv"]) == {
        "attributes", "end_time", "name", "parent_span_id", "resource", "span_id", "start_time", "status", "trace_id",
    }  # fmt: skip
    assert all(name.startswith("dpl.core.") for name in made["ldv"]["attributes"])
    assert made["ldv"]["parent_span_id"] == b"12345678".hex()
    assert made["x"] == {"decision": "delivered"}


def test_a_leaf_about_nobody_has_no_subject() -> None:
    """Neither token nor its type, and no processor where nothing went."""
    made = json.loads(
        leaf(
            ids=Ids(TRACE, SPAN), name="n", activity="a", processor=None, token=None, start_ms=1, end_ms=1, evidence={}
        )
    )
    assert set(made["ldv"]["attributes"]) == {"dpl.core.processing_activity_id"}
    assert "parent_span_id" not in made["ldv"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["\0token\0", "\0", "\0own\0", "%s"])


@given(TEXTS, TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.booleans(), st.integers(0, 2**53 - 1))
def test_a_form_is_filled_with_what_each_leaf_has_of_its_own(
    shared: str, own: str, activity: str, processor: str | None, token: str | None, parent: bool, number: int
) -> None:
    """One form makes many leaves, each as if it were written alone; no text in either can be taken for a hole."""
    evidence = {"shared": shared, "kept": ("a", shared), "own": Hole("own"), "in": {"b": 1, "a": Hole("number")}}
    form = Form("name", processor, evidence, person=token is not None, parent=parent)
    for value in ("before", own):
        ids = Ids(TRACE, SPAN, b"12345678" if parent else None)
        made = form.fill(ids, activity, token, 1, 2, {"own": value, "number": number})
        whole = {"shared": shared, "kept": ["a", shared], "own": value, "in": {"b": 1, "a": number}}
        said = json.loads(made)
        assert canonical(said) == made
        assert said["x"] == whole
        assert said["ldv"]["attributes"].get("dpl.core.data_subject_id") == token
        assert said["ldv"]["attributes"]["dpl.core.processing_activity_id"] == activity
        expected = leaf(
            ids=ids, name="name", activity=activity, processor=processor, token=token, start_ms=1, end_ms=2,
            evidence=whole,
        )  # fmt: skip
        assert expected == made


def test_every_leaf_that_the_exchange_writes_is_canonical() -> None:
    """Delivered, repeated, refused, quarantined, replayed, parked, released, expired, duties, windows."""
    leaves = [*history(), *leaves_of(waiting()), *leaves_of(duties())]
    assert {json.loads(made).get("x", {}).get("decision", "window") for made in leaves} == {
        "delivered", "duplicate", "refused", "quarantined", "parked", "expired", "window",
    }  # fmt: skip
    assert [made for made in leaves if canonical(json.loads(made)) != made] == []


def test_a_control_leaf_names_its_kind() -> None:
    """Canonical as well."""
    assert control_leaf("incident", {"at": 1}) == b'{"control":{"at":1,"kind":"incident"},"v":1}'
