"""Logs: JSON, an allow-list of keys, nothing that tells about a person."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broker.app import logs
from broker.app.logs import ALLOWED, HIDDEN, MOST_CHARS, configure, scrub

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


def test_all_that_our_own_lines_say_is_on_the_list() -> None:
    """What is not would be dropped in silence, and missing when somebody needs it."""
    missing = set[tuple[str, int, str]]()
    for path in sorted(Path(logs.__file__).parents[1].rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        calls = (
            [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)] if "structlog" in text else []
        )
        for call in calls:
            names = ast.unparse(call.func).split(".")
            if names[0] == "log" and names[-1] in {"debug", "info", "warning", "error", "critical"}:
                said = {keyword.arg for keyword in call.keywords if keyword.arg} - {"exc_info"}
                missing |= {(path.name, call.lineno, key) for key in said - ALLOWED}
    assert missing == set()


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


HOSTILE = {
    "a second line": 'x\n{"event": "worker.ready", "level": "info"}',
    "a carriage return": "all is well\rfailed",
    "colours": "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "the end of the object": '"}, {"event": "forged',
    "a backslash at the end": "x\\",
    "a null": "a\x00b",
    "another direction": "abc\u202egnp.exe\u2066",
    "nothing to see": "a\u200bb\ufeffc",
    "line ends of Unicode": "a\u2028b\u0085c",
    "half a character": "a\ud83d",
    "very long": "lang " * 10_000,
    "a number split by nothing": "1820\u200b71649",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_party_chose_writes_no_line_of_its_own(out: io.StringIO, case: str) -> None:
    """In a value, as the event, in a key, in an argument of a library: one line of printable ASCII each, not too long."""
    text = HOSTILE[case]
    # Not pytest's own, which keeps what was said as it is: half a character would not come through to its report.
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if isinstance(one.formatter, structlog.stdlib.ProcessorFormatter)]
    log = structlog.get_logger("broker.x")
    log.error("e", text=text, reason=[text], topic={"in": text}, code=text.encode(errors="replace"))
    log.error(text)
    log.error("e", **{text: "x"})
    logging.getLogger("aiokafka.x").error("failed for %s", text)
    logging.getLogger("aiokafka.y").error("failed for " + text.replace("%", ""))
    raw = out.getvalue()
    assert raw.endswith("\n")
    assert raw.isascii()
    assert raw.count("\n") == len(lines(out)) == 5
    assert "\x1b" not in raw
    for line in lines(out):
        assert line.keys() <= ALLOWED
        for value in line.values():
            assert not isinstance(value, str) or (value.isprintable() and len(value) <= MOST_CHARS + 1)


def test_a_number_is_found_behind_characters_that_nobody_sees() -> None:
    """They are taken out before anything is looked for."""
    assert scrub("1820\u200b71\u2060649") == HIDDEN


@given(st.text(max_size=400))
def test_what_is_left_of_any_text_is_printable_and_short(text: str) -> None:
    """Whatever it was."""
    left = scrub(text)
    assert len(left) <= MOST_CHARS + 1
    assert "\u200b" not in left
    assert not [c for c in left if ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF]


@given(st.text(max_size=200))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    """What was replaced stays replaced, and nothing new shows up."""
    assert scrub(scrub(text)) == scrub(text)


@given(st.text(max_size=50), st.integers(10_000_000, 999_999_999), st.sampled_from([" ", ",", "=", ":", "\n", ""]))
def test_a_number_of_eight_or_nine_digits_never_passes(text: str, number: int, separator: str) -> None:
    """Wherever it stands as a word of its own."""
    assert str(number) not in scrub(f"{separator} {number} {text}").split()
