"""Hostile and odd files: refused with a clear problem, or read as what they are; never an exception."""

from __future__ import annotations

import io
import logging
import traceback
import tracemalloc
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.connectors import edexml, uwlr
from broker.connectors.class_list import ClassListReader
from broker.connectors.edexml import Limits, Report, check, pupils
from broker.connectors.xml_reader import elements
from broker.errors import ContractError
from tests.connectors.messages import as_uwlr

CANARY = "182071649"  # a published test BSN
CLASS_LIST = f"""<?xml version="1.0" encoding="UTF-8"?>
<EDEX>
  <school><schooljaar>2026-2027</schooljaar><brincode>99PA</brincode></school>
  <vestigingen><vestiging key="VH"><naam>Hoofdgebouw</naam></vestiging></vestigingen>
  <groepen><groep key="G6"><naam>Groep 6</naam><jaargroep>6</jaargroep></groep></groepen>
  <leerlingen>
    <leerling key="L0001">
      <achternaam>Verzonnen</achternaam>
      <roepnaam>Anna</roepnaam>
      <groep key="G6"/>
      <bsn>{CANARY}</bsn>
    </leerling>
    <leerling key="L0002"><roepnaam>Bas</roepnaam></leerling>
  </leerlingen>
  <leerkrachten><leerkracht key="M1"><roepnaam>Cor</roepnaam></leerkracht></leerkrachten>
</EDEX>
"""
SECRET = "the content of a local file"


def only_problem(data: bytes, limits: Limits | None = None) -> tuple[int, str]:
    report = check(io.BytesIO(data), limits or Limits())
    assert len(report.problems) == 1, report.problems
    return report.problems[0].line, report.problems[0].reason


def with_prolog(declaration: str, body: str = CLASS_LIST) -> bytes:
    first, rest = body.split("\n", 1)
    return f"{first}\n{declaration}\n{rest}".encode()


def test_billion_laughs_is_refused_before_the_parser_sees_it() -> None:
    """Nested entities in text; the declaration itself is the problem, and it costs no memory."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    data = with_prolog(f'<!DOCTYPE EDEX [<!ENTITY l0 "ha">{laughs}]>', CLASS_LIST.replace("Anna", "&l9;"))
    tracemalloc.start()
    assert only_problem(data) == (2, "a document type declaration (<!DOCTYPE) is not accepted")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_external_entity_is_refused(tmp_path: Path, encoding: str) -> None:
    """Nothing of the file it points to is read or said, in whatever encoding the declaration hides."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    text = with_prolog(
        f'<!DOCTYPE EDEX [<!ENTITY x SYSTEM "{secret.as_uri()}">]>', CLASS_LIST.replace('"L0001"', '"&x;"')
    ).decode()
    report = check(io.BytesIO(text.replace("UTF-8", encoding.upper()).encode(encoding)))
    assert [p.reason for p in report.problems] == ["a document type declaration (<!DOCTYPE) is not accepted"]
    assert SECRET not in repr(report) + "".join(report.without_eck_id_las_keys)


def test_an_external_dtd_is_refused() -> None:
    """Not loaded, and not tolerated either."""
    data = with_prolog('<!DOCTYPE EDEX SYSTEM "http://example.invalid/edex.dtd">')
    assert only_problem(data)[1] == "a document type declaration (<!DOCTYPE) is not accepted"


@pytest.mark.parametrize("at", range(65_520, 65_552))
def test_a_declaration_across_two_chunks_is_refused(at: int) -> None:
    """Wherever the reader's chunk ends in the word."""
    first, rest = CLASS_LIST.split("\n", 1)
    padding = " " * (at - len(first) - 2)
    data = f"{first}\n{padding}\n<!DOCTYPE EDEX>\n{rest}".encode()
    assert only_problem(data) == (3, "a document type declaration (<!DOCTYPE) is not accepted")


def test_an_undeclared_entity_is_not_well_formed() -> None:
    """There is no declaration that could have made it one."""
    line, reason = only_problem(CLASS_LIST.replace("Anna", "&anna;").encode())
    assert line == 9
    assert reason.startswith("not well-formed XML (")


def test_xinclude_is_refused(tmp_path: Path) -> None:
    """It would not be followed in any case."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" parse="text" href="{secret.as_uri()}"/>'
    assert (
        only_problem(CLASS_LIST.replace("<roepnaam>Bas</roepnaam>", include).encode())[1] == "XInclude is not accepted"
    )


def test_processing_instructions_and_comments_are_nothing() -> None:
    """A style sheet is not fetched; a comment in the middle of a value splits nothing."""
    text = CLASS_LIST.replace("<EDEX", '<?xml-stylesheet href="http://example.invalid/x.xsl"?><EDEX').replace(
        "<schooljaar>2026-2027", "<schooljaar>2026<!-- hier -->-2027"
    )
    report = check(io.BytesIO(text.encode()))
    assert (report.problems, report.school_year) == ([], "2026-2027")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(file_bytes=500), "the file is larger than 500 bytes"),
        (Limits(depth=3), "elements are nested more than 3 deep"),
        (Limits(text_chars=8), "a text is longer than 8 characters"),
        (Limits(records=2), "there are more than 2 records"),
        (Limits(references=0), "refers to more than 0 groups"),
    ],
)
def test_each_limit_is_a_problem_of_its_own(limits: Limits, reason: str) -> None:
    """And reading stops there."""
    assert only_problem(CLASS_LIST.encode(), limits)[1] == reason


def test_a_very_deep_and_a_very_long_file_are_refused() -> None:
    """By default as well, with libxml2's own bounds behind ours."""
    deep = CLASS_LIST.replace("Bas", "<x>" * 5_000 + "</x>" * 5_000)
    assert not check(io.BytesIO(deep.encode())).usable
    long = CLASS_LIST.replace("Bas", "x" * 12_000_000)
    assert not check(io.BytesIO(long.encode())).usable
    long_key = CLASS_LIST.replace("L0001", "x" * 12_000_000)
    assert not check(io.BytesIO(long_key.encode())).usable


class Endless:
    """A stream of pupils without an end, that never holds more than a chunk."""

    def __init__(self, pupils: int) -> None:
        head, tail = CLASS_LIST.split("<leerlingen>")
        self._parts = [head + "<leerlingen>"]
        self._left, self._tail, self._n = pupils, tail, 0

    def seek(self, _at: int) -> None:
        """Be read once."""

    def read(self, _size: int) -> bytes:
        if self._parts:
            return self._parts.pop().encode()
        if self._n >= self._left:
            self._tail, last = "", self._tail
            return last.encode()
        some = range(self._n, min(self._n + 200, self._left))
        self._n = some.stop
        return "".join(
            f'<leerling key="P{n}"><roepnaam>x</roepnaam><toevoegingen>{"<a>b</a>" * 40}</toevoegingen></leerling>\n'
            for n in some
        ).encode()


def test_elements_are_let_go_once_read() -> None:
    """Of 5,000 pupils no more than the parser's chunk is in the tree at any time, and what was read is empty."""
    most = 0
    for event, element, _line in elements(cast(BinaryIO, Endless(5_000)), Limits()):
        if event == "end" and element.tag == "leerling":
            before, parent = element.getprevious(), element.getparent()
            assert before is None or (len(before) == 0 and before.getprevious() is None)
            assert parent is not None
            most = max(most, len(parent))
        elif event == "end" and element.tag == "leerlingen":
            assert len(element) == 1
    assert 0 < most <= 401


def test_memory_does_not_grow_with_the_file() -> None:
    """Ten times the pupils take no more than their keys' hashes more: elements are let go once read."""

    def peak(pupils_in_file: int) -> int:
        tracemalloc.start()
        count = sum(1 for _ in pupils(cast(BinaryIO, Endless(pupils_in_file))))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == pupils_in_file + 2
        return most

    assert peak(20_000) - peak(2_000) < 18_000 * 400


def test_lines_are_known_beyond_65535() -> None:
    """Where libxml2's elements stop counting it asks the text in them, so a line can be one off there."""
    text = CLASS_LIST.replace("<groepen>", "\n" * 35_000 + "<groepen>").replace(
        "<leerlingen>", "<leerlingen>" + "\n" * 35_000
    )
    assert [pupil.line for pupil in pupils(io.BytesIO(text.encode()))] == [
        pytest.approx(70_007, abs=1),
        pytest.approx(70_013, abs=1),
    ]


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("UTF-8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("ISO-8859-1", "latin-1"),
        ("iso-8859-15", "iso-8859-15"),
        ("windows-1252", "cp1252"),
        ("UTF-16", "utf-16"),
        ("ISO-8859-1", "utf-8-sig"),
    ],
)
def test_dialects_are_read_as_what_they_are(declared: str, stored: str) -> None:
    """Byte-order mark, older encodings, CRLF: the same enrolments, with a name and a key that are not ASCII."""
    text = CLASS_LIST.replace('"UTF-8"', f'"{declared}"').replace("Anna", "Zoë").replace("L0002", "Ünlü-2")
    for line_end in ("\n", "\r\n"):
        source = io.BytesIO(text.replace("\n", line_end).encode(stored))
        assert check(source).problems == []
        assert [(p.las_key, p.line) for p in pupils(source)] == [("L0001", 7), ("Ünlü-2", 13)]


def test_a_file_without_declaration_is_utf8() -> None:
    """As XML 1.0 says."""
    body = CLASS_LIST.split("\n", 1)[1].replace("Anna", "Zoë")
    assert check(io.BytesIO(body.encode())).usable


@pytest.mark.parametrize(
    "declared", ["UTF-7", "EBCDIC-CP-NL", "IBM037", "UTF-32", "niets", "punycode", "rot13", "idna"]
)
def test_other_declared_encodings_are_refused(declared: str) -> None:
    """The message says which ones are taken; the file's own word is not repeated."""
    line, reason = only_problem(CLASS_LIST.replace("UTF-8", declared).encode())
    assert line == 1
    assert reason.startswith("the declared encoding is not accepted; accepted are UTF-8")


def test_bytes_that_do_not_fit_the_encoding_are_a_problem_with_their_line() -> None:
    """A windows-1252 file that says it is UTF-8, the classic; nothing is guessed."""
    data = CLASS_LIST.replace("Anna", "Zoë").encode("cp1252")
    assert only_problem(data) == (9, "bytes that are not valid in the encoding of the file, utf-8")


@pytest.mark.parametrize(
    "data", [b"", b" ", b"\xef\xbb\xbf", b"\xff\xfe", b"nee", b"\x00" * 100, b"<EDEX>", b"PK\x03\x04", b"\xff\xfe<"]
)
def test_what_is_no_xml_at_all_is_a_problem(data: bytes) -> None:
    """An empty file, a zip, half a file: a report with a problem, not an exception."""
    assert not check(io.BytesIO(data)).usable


def test_a_file_cut_off_is_a_problem() -> None:
    """At every length but the whole; nothing is sent of a half class list."""
    data = CLASS_LIST.encode().rstrip()
    for length in range(0, len(data), 7):
        assert not check(io.BytesIO(data[:length])).usable
    assert check(io.BytesIO(data)).usable


def everything_said(data: bytes, caplog: pytest.LogCaptureFixture, reader: ClassListReader) -> tuple[Report, str]:
    """All text that comes out of reading a file, whatever way it takes."""
    said = []
    report = reader.check(io.BytesIO(data))
    said += [repr(report), str(report), report.to_json()]
    for read in (reader.pupils, reader.employees):
        if report.usable:
            said += [f"{enrolment!r} {enrolment}" for enrolment in read(io.BytesIO(data))]
            continue
        with pytest.raises(ContractError) as raised:
            list(read(io.BytesIO(data)))
        assert raised.value.__context__ is None
        said += [*traceback.format_exception(raised.value), repr(raised.value), str(raised.value.field)]
    return report, "\n".join([*said, caplog.text])


SAMPLE = CLASS_LIST.encode()
ANSWER = as_uwlr(CLASS_LIST, envelope=True).encode()
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "insert", "repeat", "swap"]),
        st.integers(0, len(SAMPLE) - 1),
        st.integers(1, 40),
        st.one_of(
            st.binary(min_size=1, max_size=4),
            st.sampled_from([b"<", b">", b"&", b'"', b"</", b"]]>", b"<![CDATA[", b"<!--", b"<?x ", b"&#0;", b"\x00"]),
            st.sampled_from(["@", "<b@/>", "&x@;", " key='@'", "<!--@", "xmlns:a@='@'"]).map(
                lambda form: form.replace("@", CANARY).encode()
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def mutate(data: bytes, mutations: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, at, length, piece in mutations:
        cut = data[at : at + length]
        match kind:
            case "set":
                data = data[:at] + piece + data[at + len(piece) :]
            case "delete":
                data = data[:at] + data[at + length :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "repeat":
                data = data[:at] + cut + data[at:]
            case _:
                data = data[:at] + data[at + length : at + 2 * length] + cut + data[at + 2 * length :]
    return data


@given(MUTATIONS)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_file_gives_a_report_and_never_says_a_personal_number(
    caplog: pytest.LogCaptureFixture, mutations: list[tuple[str, int, int, bytes]]
) -> None:
    """Whatever bytes change: `check` never raises, and the canary is in no repr, report, error, traceback or log."""
    caplog.set_level(logging.DEBUG)
    for data, reader in ((SAMPLE, edexml.READER), (ANSWER, uwlr.READER)):
        report, said = everything_said(mutate(data, mutations), caplog, reader)
        assert CANARY not in said
        assert isinstance(report.usable, bool)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_report_with_a_problem(data: bytes) -> None:
    """No random file is a class list, and none raises."""
    assert not check(io.BytesIO(data)).usable
