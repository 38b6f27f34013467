"""Logs: JSON, an allow-list of keys, nothing that tells about a person."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broker.app.logs import ALLOWED, HIDDEN, configure, scrub

ECK_ID = "https://ketenid.nl/pilot/" + "ab12" * 32
BSN = "182071649"  # published test number; belongs to nobody


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What is logged, with logging as it was before put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("broker").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    """The logged objects."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_allowed_keys_only(out: io.StringIO) -> None:
    """What is not on the list does not pass, whoever meant well."""
    structlog.get_logger("broker.engine.lane").warning(
        "lane.failed", lane="exchange.in.sis-noord.0", pupil="Jan", offset=7
    )
    (line,) = lines(out)
    assert line["event"] == "lane.failed"
    assert line["level"] == "warning"
    assert line["lane"] == "exchange.in.sis-noord.0"
    assert line["offset"] == 7
    assert line.keys() <= ALLOWED
    assert "Jan" not in out.getvalue()


@pytest.mark.parametrize(
    "secret",
    [
        ECK_ID, BSN, BSN[1:], "ab12" * 32, "AB12" * 10, "Qm9la2VuIHppam4gZ29lZCBlbiBtb29pIGVuIHpvIHZvb3J0",
        "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00ifQ", "dGhpcyBpcyAyNCBieXRlcyE9MTIzNA==",
    ],
)  # fmt: skip
def test_identifiers_and_tokens_in_texts_are_replaced(out: io.StringIO, secret: str) -> None:
    """ECK iDs, PGNs, long hex and base64, in an allowed key too."""
    structlog.get_logger("broker.x").error("e", text=f"about {secret}, you see", reason=secret)
    assert secret not in out.getvalue()
    assert out.getvalue().count(HIDDEN) == 2


@pytest.mark.parametrize(
    "plain",
    [
        "exchange.in.uitgeverij-met-een-hele-lange-naam.0", "sha256:b4a833e887a6cf8e4ae81540e3d963d8",
        "ready: 15 lanes", "broker-20261124t171829-a1b2", "lane.py:120", "quarantine.portaal-plein",
        "in.uitgever-" + "x" * 28 + ".usage", "CorruptRecordException", "GroupCoordinatorNotAvailableError",
    ],
)  # fmt: skip
def test_our_own_names_stay_readable(plain: str) -> None:
    """Topics, versions, keys' ids and types are what an operator needs."""
    assert scrub(plain) == plain


def test_of_an_exception_only_type_and_place_are_logged(out: io.StringIO) -> None:
    """Its text may quote the data it stumbled over; so may those it was caused by."""
    try:
        raise ValueError(f"cannot read {BSN} of Jan Jansen")
    except ValueError:
        structlog.get_logger("broker.x").exception("e")
        logging.getLogger("aiokafka").exception("failed for %r", b"Jan Jansen")
    first, second = lines(out)
    for line in (first, second):
        assert line["error"] == "ValueError"
        assert str(line["at"]).startswith("test_logs.py:")
    assert second["logger"] == "aiokafka"
    assert "Jan" not in out.getvalue()
    assert "Traceback" not in out.getvalue()


def test_lines_of_libraries_are_filled_with_harmless_values_only(out: io.StringIO) -> None:
    """Numbers, plain names and types of errors pass; bytes and objects are named by their type."""
    log = logging.getLogger("aiokafka.consumer")
    log.warning("partition %s of %s: %s (%r)", 3, "in.sis-noord", ValueError("Jan"), {"name": "Jan"})
    log.warning("too few %s %s", "a")
    log.info("not at this level")
    texts = [line["text"] for line in lines(out)]
    assert texts == ["partition 3 of in.sis-noord: ValueError ('<dict>')", "too few %s %s"]


def test_a_library_that_repeats_itself_is_heard_once(out: io.StringIO) -> None:
    """Without Kafka, aiokafka writes the same line a hundred times a second; ours all pass."""
    for number in range(5):
        logging.getLogger("aiokafka").error("Unable to connect to node %s", number)
        structlog.get_logger("broker.x").error("e", offset=number)
    assert [line["event"] for line in lines(out)].count("library.log") == 1
    assert len(lines(out)) == 6


@given(st.text(max_size=200))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    """What was replaced stays replaced, and nothing new shows up."""
    assert scrub(scrub(text)) == scrub(text)


@given(st.text(max_size=50), st.integers(10_000_000, 999_999_999), st.sampled_from([" ", ",", "=", ":", "\n", ""]))
def test_a_number_of_eight_or_nine_digits_never_passes(text: str, number: int, separator: str) -> None:
    """Wherever it stands as a word of its own."""
    assert str(number) not in scrub(f"{separator} {number} {text}").split()
