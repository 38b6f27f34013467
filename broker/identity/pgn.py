"""The PGN screen: finds a personal number of education in a text, without ever saying which.

A PGN (persoonsgebonden nummer: BSN or onderwijsnummer) must not enter the exchange: a school board may use
it once, to obtain a pseudonym (WPO art. 178a and parallels). The same holds for its hash (HPGN) and for the
stampseudoniem, which belong to the Nummervoorziening and the school's administration alone.

What counts as a number:

1. Digits of any script, by their Unicode decimal value.
2. A chunk is digits with only dots, dashes, white space or invisible characters between them, taken as far
   as it goes on both sides. A chunk of exactly nine digits is tested, and so are the parts of a longer
   chunk that white space or dashes set apart ("groep 4 182071649", "klas-4-182071649"). Digits are never cut
   out of a longer unbroken run: the first nine of a phone number prove nothing.
3. The 11-proof: the sum of digit times weight 9 8 7 6 5 4 3 2 -1, modulo 11. Remainder 0 is a BSN
   (or sofinummer), remainder 5 an onderwijsnummer. 000000000 is neither.
4. Forms that hold digits and are something else do not count: UUIDs, hexadecimal words of 32 or more
   characters (so also the inside of an ECK iD), dates, school years, phone numbers written with their
   country code.
5. A percent-encoded text (a URL) is also read decoded.

Two of eleven nine-digit numbers pass by chance. A school whose local ids have nine digits declares their
form (`allowed_form`), which is then not taken for a number. Typed business codes (GTIN, order numbers of
a fixed form) are not screened at all: that is for the caller, who knows which field it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import unquote

from broker.identity.formats import is_eck_id, normalise_digits

__all__ = ["PgnKind", "find_pgn", "screen_bytes"]

PgnKind = Literal["bsn", "onderwijsnummer", "hpgn", "stampseudoniem"]

_DASHES: Final = r"\-\u00ad\u058a\u05be\u2010-\u2015\u2043\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d"
_DOTS: Final = r".\u00b7\u2024\u2027\u30fb\uff0e"
_INVISIBLE: Final = r"\x00\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe0f\ufeff"
_BETWEEN: Final = rf"[\s{_DASHES}{_DOTS}{_INVISIBLE}]*"

# Cheap tests first. In ASCII text, most of what there is, nine digits cannot start anywhere else than here.
_ascii_start = re.compile(r"[0-9][0-9\s.\-\x00]{8}").search
_nine_digits = re.compile(rf"\d(?:{_BETWEEN}\d){{8}}").search
_chunks = re.compile(rf"[0-9](?:{_BETWEEN}[0-9])*").finditer
_hex_run = re.compile(r"[0-9a-fA-F]{64}").search
_hex_64 = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])").search
# Wider than the one published form: production uses a path that is not published.
_stampseudoniem = re.compile(r"(?:ketenid\.nl|id\.school)/+sp[0-9a-z_-]*/+[0-9a-f]{8}", re.IGNORECASE).search
_only_digits = re.compile(r"[^0-9]+")
_whitespace = re.compile(r"\s+")
_whitespace_or_dash = re.compile(rf"[\s{_DASHES}]+")
_trunk_zero = re.compile(r"\(0\)\s*")
_country_code = re.compile(r"[1-9][0-9]{0,2}").fullmatch
_international = re.compile(r"00[2-9][0-9]{1,2}").fullmatch
_known_forms = re.compile(
    r"""
      (?<![0-9a-fA-F-]) [0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12} (?![0-9a-fA-F-])  # UUID
    | (?<![0-9a-fA-F]) (?=[0-9]*[a-fA-F]) [0-9a-fA-F]{32,} (?![0-9a-fA-F])                      # hash, ECK iD
    | (?<![0-9]) (?<![0-9][-.])
      (?: (?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])                        # 2026-08-17
        | (?:0?[1-9]|[12][0-9]|3[01])([-.])(?:0?[1-9]|1[0-2])\1(?:19|20)[0-9]{2}                # 17-08-2026
        | 20[0-9]{2}-20[0-9]{2} )                                                               # 2026-2027
      (?! [-.]?[0-9] )
    """,
    re.VERBOSE,
).sub


def find_pgn(text: str, *, allowed_form: re.Pattern[str] | None = None) -> PgnKind | None:
    """Find a personal number in this text and give its kind; None if there is none. Never gives the value.

    Args:
        text: one value: a user id, a free text, a URL, a header.
        allowed_form: the form a school declared for its local ids. A text that is wholly of this form is
            not taken for a BSN or onderwijsnummer; an HPGN or stampseudoniem is found all the same.

    Cost: a text without nine digits in a row (separators aside) leaves after one or two searches.
    """
    if len(text) < 9 or (text.startswith("https://ketenid.nl/") and is_eck_id(text)):
        return None
    found = _find(text, allowed_form)
    if found is None and "%" in text:
        decoded = unquote(text)
        if decoded != text:
            found = _find(decoded, allowed_form)
    return found


def screen_bytes(data: bytes, *, allowed_form: re.Pattern[str] | None = None) -> PgnKind | None:
    """Find a personal number in a record key or header; as `find_pgn`, for bytes of unknown encoding.

    Read as UTF-8; what is no valid UTF-8 is read as Latin-1 as well. UTF-16 is covered because a zero byte
    between digits counts as invisible. A number in binary form (a serialised integer) is not found.
    """
    if len(data) < 9:
        return None
    try:
        return find_pgn(data.decode(), allowed_form=allowed_form)
    except UnicodeDecodeError:
        lenient = find_pgn(data.decode(errors="replace"), allowed_form=allowed_form)
        return lenient or find_pgn(data.decode("latin-1"), allowed_form=allowed_form)


def _find(text: str, allowed_form: re.Pattern[str] | None) -> PgnKind | None:
    if "/sp" in text.lower() and _stampseudoniem(text) is not None:
        return "stampseudoniem"
    if len(text) >= 64 and _hex_run(text) is not None and _hex_64(text) is not None:
        return "hpgn"
    if (text.isascii() and _ascii_start(text) is None) or _nine_digits(text) is None:
        return None
    if allowed_form is not None and allowed_form.fullmatch(text) is not None:
        return None
    for digits in _numbers(_known_forms("x", normalise_digits(text))):
        kind = _eleven_proof(digits)
        if kind is not None:
            return kind
    return None


def _numbers(text: str) -> Iterator[str]:
    """Give every run of exactly nine digits there is to test (rule 2 of the module)."""
    text = _trunk_zero.sub("", text) if "(0)" in text else text
    for match in _chunks(text):
        chunk = match[0]
        digits = _only_digits.sub("", chunk)
        if len(digits) == 9:
            yield digits
        elif len(digits) > 9 and not _is_phone(text[max(0, match.start() - 1) : match.start()], chunk, len(digits)):
            for splits in (_whitespace, _whitespace_or_dash):
                for part in splits.split(chunk):
                    piece = _only_digits.sub("", part)
                    if len(piece) == 9:
                        yield piece


def _is_phone(before: str, chunk: str, digits: int) -> bool:
    """Tell whether this chunk of more than nine digits is a phone number with its country code (E.164: at most 15)."""
    if digits > 15:
        return False
    first = _whitespace_or_dash.split(chunk, maxsplit=1)[0]
    return (before == "+" and _country_code(first) is not None) or _international(first) is not None


def _eleven_proof(digits: str) -> PgnKind | None:
    d = digits.encode()
    # Each code is its digit + 48, and 48 times the sum of the weights is 48 * 43 = 2064.
    total = 9 * d[0] + 8 * d[1] + 7 * d[2] + 6 * d[3] + 5 * d[4] + 4 * d[5] + 3 * d[6] + 2 * d[7] - d[8] - 2064
    remainder = total % 11
    if remainder == 5:
        return "onderwijsnummer"
    return "bsn" if remainder == 0 and digits != "000000000" else None
