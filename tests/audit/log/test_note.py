"""Tests of `broker.audit.log.note`: golden values, the strict form, and whose signatures count."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.log.note import (
    MAX_SIGNATURES,
    Cosigner,
    NoteError,
    SignatureLine,
    Signer,
    VerifiedSignature,
    Verifier,
    open_note,
    render,
    split_note,
)
from tests.audit.log.tree import NOTE, ORIGIN, TEXT, VKEY, flips, key

LOG = Signer(ORIGIN, key("golden log key"))
WITNESS = Cosigner("witness.example/w1", key("witness"))
KNOWN = (Verifier.parse(LOG.vkey), Verifier.parse(WITNESS.vkey))


def test_the_golden_key_and_note() -> None:
    """Byte for byte those of the audit design, section 2, which tessera and x/mod verify."""
    assert LOG.vkey == VKEY
    assert LOG.key_id.hex() == "7f4519d3"
    assert render(TEXT, [LOG.sign(TEXT)]) == NOTE
    assert open_note(NOTE, KNOWN).verified == (VerifiedSignature(ORIGIN, LOG.key_id, None),)


def test_the_example_of_the_specification_has_the_form_of_a_note() -> None:
    """c2sp.org/tlog-cosignature: log and witness below one checkpoint; the witness's time is in its signature."""
    data = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    ).encode()
    text, lines = split_note(data)
    assert [line.name for line in lines] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert int.from_bytes(lines[1].signature[:8], "big") == 1679315147
    assert render(text, lines) == data


def test_a_cosignature_carries_its_time() -> None:
    """Type 4: the time is signed, and given back to the reader."""
    data = render(TEXT, [LOG.sign(TEXT), WITNESS.sign(TEXT, 1795305600)])
    assert open_note(data, KNOWN).verified[1] == VerifiedSignature("witness.example/w1", WITNESS.key_id, 1795305600)
    line = WITNESS.sign(TEXT, 1795305600)
    later = SignatureLine(line.name, line.key_id, (1795305601).to_bytes(8, "big") + line.signature[8:])
    with pytest.raises(NoteError, match="does not verify"):
        open_note(render(TEXT, [later]), KNOWN)


def test_a_cosignature_is_no_signature_of_the_same_key() -> None:
    """The type is part of the key id, and another message is signed."""
    both = key("both")
    signer, cosigner = Signer("name", both), Cosigner("name", both)
    assert signer.key_id != cosigner.key_id
    forged = SignatureLine("name", signer.key_id, cosigner.sign(TEXT, 7).signature[8:])
    with pytest.raises(NoteError, match="does not verify"):
        open_note(render(TEXT, [forged]), [signer.verifier])


@pytest.mark.parametrize("time_s", [-1, 1 << 63])
def test_a_cosignature_has_a_time_below_two_to_the_sixty_third(time_s: int) -> None:
    """tlog-cosignature: it must not exceed 2^63 - 1."""
    with pytest.raises(NoteError, match="seconds since 1970"):
        WITNESS.sign(TEXT, time_s)
    line = SignatureLine(WITNESS.name, WITNESS.key_id, b"\x80" + bytes(71))
    with pytest.raises(NoteError, match="beyond"):
        open_note(render(TEXT, [line]), KNOWN)


def test_signatures_of_unknown_keys_are_ignored() -> None:
    """The format demands it, also when name or key id (not both) are those of a known key."""
    line = LOG.sign(TEXT)
    strangers = [
        Signer("stranger.example", key("stranger")).sign(TEXT),
        SignatureLine(line.name, b"\0\0\0\0", bytes(64)),
        SignatureLine("stranger.example", line.key_id, b"\0"),
    ]
    note = open_note(render(TEXT, [*strangers, line]), KNOWN)
    assert [signed.name for signed in note.verified] == [ORIGIN]
    with pytest.raises(NoteError, match="no signature of a key that is known"):
        open_note(render(TEXT, strangers), KNOWN)


def test_a_wrong_signature_of_a_known_key_is_refused_beside_a_right_one() -> None:
    """Also a second one of the same key."""
    good, bad = LOG.sign(TEXT), LOG.sign("other\n")
    for lines in ([bad], [good, bad], [bad, good], [good, SignatureLine(good.name, good.key_id, good.signature[:-1])]):
        with pytest.raises(NoteError, match="does not verify"):
            open_note(render(TEXT, lines), KNOWN)


def test_the_same_key_twice_counts_once() -> None:
    """A quorum can not be filled by repeating a line."""
    lines = [WITNESS.sign(TEXT, 1), WITNESS.sign(TEXT, 2)]
    assert [signed.time_s for signed in open_note(render(TEXT, lines), KNOWN).verified] == [1]


def test_two_known_keys_that_can_not_be_told_apart_are_refused() -> None:
    """Same name and key id, another key: the reader's configuration is wrong."""
    first = KNOWN[0]
    twin = Verifier(first.name, first.kind, bytes(32))
    object.__setattr__(twin, "key_id", first.key_id)
    with pytest.raises(NoteError, match="share the name"):
        open_note(NOTE, [first, twin])
    assert open_note(NOTE, [first, first]).text == TEXT


def test_a_text_may_have_empty_lines_of_its_own() -> None:
    """The last empty line divides."""
    text = "one\n\ntwo\n\n"
    assert open_note(render(text, [LOG.sign(text)]), KNOWN).text == text


def test_every_flipped_bit_of_a_note_is_refused() -> None:
    """The golden note: 1,832 flips. (With one line there is no other that could be ignored as unknown.)"""
    for changed in flips(NOTE):
        with pytest.raises(NoteError):
            open_note(changed, KNOWN)


def test_a_flipped_bit_in_a_cosignature_line_is_refused_or_makes_its_key_unknown() -> None:
    """The exception that C2SP demands: a changed name or key id is an unknown key. It then does not count."""
    line = WITNESS.sign(TEXT, 1795305600)
    whole = render(TEXT, [LOG.sign(TEXT), line])
    start = len(render(TEXT, [LOG.sign(TEXT)]))
    ignored = 0
    for changed in flips(whole[start:]):
        try:
            note = open_note(whole[:start] + changed, KNOWN)
        except NoteError:
            continue
        ignored += 1
        assert [signed.name for signed in note.verified] == [ORIGIN]
        other = split_note(whole[:start] + changed)[1][1]
        assert (other.name, other.key_id) != (line.name, line.key_id)
    assert ignored > 0


GOOD_LINE = str(LOG.sign(TEXT))
MALFORMED = {
    "empty": b"",
    "no signature": TEXT.encode() + b"\n",
    "no empty line": (TEXT + GOOD_LINE + "\n").encode(),
    "no newline at the end": NOTE[:-1],
    "two newlines at the end": NOTE + b"\n",
    "space at the end of a line": NOTE[:-1] + b" \n",
    "carriage return": NOTE.replace(b"\n", b"\r\n"),
    "tab in the text": NOTE.replace(b"\n2\n", b"\n2\t\n"),
    "hyphen for the dash": NOTE.replace("—".encode(), b"-"),
    "two spaces": NOTE.replace("— ".encode(), "—  ".encode()),
    "not UTF-8": NOTE.replace(b"broker", b"br\xf6ker"),
    "surrogate in UTF-8": NOTE.replace(b"broker", b"\xed\xa0\x80"),
    "line after the signatures": NOTE + b"more\n",
    "base64 without padding": NOTE.replace(b"qQo=", b"qQo"),
    "base64 with other last bits": NOTE.replace(b"qQo=", b"qQp="),
    "base64url": NOTE.replace(b"DN+n", b"DN-n"),
    "key id alone": f"{TEXT}\n— {ORIGIN} f0UZ0w==\n".encode(),
    "malformed line of an unknown key": NOTE + "— stranger AAAA=\n".encode(),
    "plus in a name": NOTE + f"— a+b {b64encode(bytes(68)).decode()}\n".encode(),
    "no-break space in a name": NOTE + f"— a\u00a0b {b64encode(bytes(68)).decode()}\n".encode(),
    "empty name": NOTE + f"—  {b64encode(bytes(68)).decode()}\n".encode(),
    "too many signatures": NOTE + f"— a {b64encode(bytes(68)).decode()}\n".encode() * MAX_SIGNATURES,
    "too large": b"x" * (1 << 20) + NOTE,
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_note_is_refused(case: str) -> None:
    """The strict form of c2sp.org/signed-note; also for lines that would be ignored."""
    with pytest.raises(NoteError):
        open_note(MALFORMED[case], KNOWN)


@pytest.mark.parametrize("text", ["tab\t\n", "nul\0\n", "carriage return\r\n"])
def test_a_control_character_is_refused_also_where_it_was_signed(text: str) -> None:
    """A terminal or another reader could show another text than the one that was signed."""
    line = SignatureLine(LOG.name, LOG.key_id, key("golden log key").sign(text.encode()))
    with pytest.raises(NoteError, match="not text, an empty line and signature lines"):
        open_note(f"{text}\n{line}\n".encode(), KNOWN)


def test_sixteen_signatures_are_read() -> None:
    """The least that a reader must take."""
    others = [Signer(f"other{i}.example", key(f"other {i}")).sign(TEXT) for i in range(15)]
    assert open_note(render(TEXT, [*others, LOG.sign(TEXT)]), KNOWN).text == TEXT


NAME, ID, KEY = VKEY.split("+", 2)
BAD_VKEYS = {
    "empty": "",
    "no key": f"{NAME}+{ID}",
    "empty name": f"+{ID}+{KEY}",
    "space in the name": f"broker example+{ID}+{KEY}",
    "another name": f"x{NAME}+{ID}+{KEY}",
    "another key id": f"{NAME}+7f4519d4+{KEY}",
    "upper case": f"{NAME}+7F4519D3+{KEY}",
    "short key id": f"{NAME}+7f4519d+{KEY}",
    "key not base64": f"{NAME}+{ID}+{KEY[:-1]}-",
    "key too short": f"{NAME}+{ID}+{KEY[:-4]}",
    "type 2": Verifier.parse(VKEY).vkey.replace("+Aaw", "+Aqw"),
    "newline": VKEY + "\n",
    "padding": VKEY + "=",
}


@pytest.mark.parametrize("case", BAD_VKEYS)
def test_a_verifier_key_is_read_in_one_spelling(case: str) -> None:
    """Its key id must belong to it, so that a slip in copying shows."""
    with pytest.raises(NoteError):
        Verifier.parse(BAD_VKEYS[case])


def test_a_verifier_key_is_written_as_it_was_read() -> None:
    """For both types."""
    assert [verifier.vkey for verifier in KNOWN] == [LOG.vkey, WITNESS.vkey]


def test_every_flipped_bit_of_a_verifier_key_is_refused() -> None:
    """Also those that leave it UTF-8."""
    for changed in flips(VKEY.encode()):
        with pytest.raises(NoteError):
            Verifier.parse(changed.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "bell\a\n", "surrogate \ud800\n"])
def test_only_the_text_of_a_note_is_signed(text: str) -> None:
    """Newline at the end and no other control character; Unicode."""
    for sign in (LOG.sign, lambda text: WITNESS.sign(text, 1)):
        with pytest.raises(NoteError, match="the text of a note"):
            sign(text)


def test_a_note_needs_a_signature() -> None:
    """Without one nobody could tell it from text."""
    with pytest.raises(NoteError, match="at least one"):
        render(TEXT, [])


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[chr(c) for c in range(32)]))


@given(st.lists(LINES, min_size=1).map(lambda lines: "\n".join(lines) + "\n"))
def test_any_text_comes_back_as_it_was_signed(text: str) -> None:
    """Whatever its lines are; also lines that look like signatures."""
    assert open_note(render(text, [LOG.sign(text)]), KNOWN).text == text


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_break_the_reader(data: bytes) -> None:
    """Only our error comes out."""
    with pytest.raises(NoteError):
        open_note(data, KNOWN)
