"""Tests of `broker.errors`: who must act, and where."""

from __future__ import annotations

import ast
import gc
import inspect
from pathlib import Path

import pytest

import broker
from broker import errors
from broker.errors import (
    AccessDenied,
    BrokerError,
    ConfigError,
    ContractError,
    Fenced,
    FieldError,
    TransientError,
    told,
)
from broker.exchange.outcomes import CODES, reference

PACKAGE = Path(broker.__file__).parent
# Raised where a sender's own software encodes, before anything is sent.
OF_SENDERS = {"schema.encode"}
ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, BrokerError)]


def test_all_errors_are_one_family() -> None:
    """A caller can catch all we raise on purpose, or those of who must act."""
    assert {c.__name__ for c in ALL} == {
        "AccessDenied", "BrokerError", "ConfigError", "ContractError", "Fenced", "FieldError", "TransientError",
    }  # fmt: skip
    assert issubclass(ContractError, FieldError)
    assert issubclass(AccessDenied, FieldError)
    assert not issubclass(ConfigError, FieldError)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_code(kind: type[BrokerError]) -> None:
    """Its own by default, another where one is given."""
    assert kind("x").code == kind.default_code
    assert kind("x", code="a.b").code == "a.b"


def test_what_is_logged_of_an_error_that_is_not_ours_is_its_type() -> None:
    """Its text may quote what was read."""
    assert told(TransientError("Kafka is away")) == str(TransientError("Kafka is away"))
    assert told(ValueError("Jan Jansen")) == "ValueError"


def test_default_codes_differ() -> None:
    """A log can be counted by them."""
    codes = [c.default_code for c in (BrokerError, ConfigError, ContractError, AccessDenied, TransientError, Fenced)]
    assert len(set(codes)) == len(codes)


def test_an_error_about_a_record_says_where_it_stands() -> None:
    """Topic, partition and offset; nothing of the record itself."""
    error = TransientError("Kafka did not answer", topic="in.delta", partition=3, offset=41)
    assert str(error) == "Kafka did not answer [in.delta/3@41]"
    assert str(TransientError("Kafka did not answer")) == "Kafka did not answer"


def test_an_error_about_a_field_keeps_its_name_and_rule_out_of_the_text() -> None:
    """They are for software: the status record has fields for them."""
    error = AccessDenied("no agreement", field="eckId", rule="r-1")
    assert (error.field, error.rule, str(error)) == ("eckId", "r-1", "no agreement")


def codes_raised(*folders: str) -> dict[str, str]:
    """Codes of errors about one event that the pure modules raise, each with a file that does."""
    found: dict[str, str] = {}
    gc.collect()  # CPython 3.11: what is collected in the middle of `ast.parse` breaks it, such as futures of earlier tests
    for path in (p for folder in folders for p in sorted((PACKAGE / folder).glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ContractError", "AccessDenied"):
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        found[keyword.value.value] = path.name
    return found


def test_every_code_about_an_event_has_an_outcome() -> None:
    """One that has none would end the lane at the first record that meets it."""
    raised = codes_raised("", "exchange", "identity", "schemas")
    missing = {code: file for code, file in raised.items() if code not in CODES and code not in OF_SENDERS}
    assert missing == {}


def test_the_reference_of_outcome_codes_is_the_generated_one() -> None:
    """`docs/reference/outcomes.md` is what `make docs` writes, with a line for each code."""
    page = (PACKAGE.parent / "docs" / "reference" / "outcomes.md").read_text("utf-8")
    assert page == reference()
    for code, what in CODES.items():
        assert f"| `{code}` | {what.outcome.value.lower()} | {what.sentence} |" in page
