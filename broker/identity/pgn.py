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
3. Any other mark (`/ _ : + | ,` ...) stands between the parts of one number, and as often between numbers that have
   nothing to do with each other: dates, times, lists, sums, paths. So a run of digits that one and the same mark
   joins counts only if it has nine digits from end to end, in groups in which people write nine digits:
   - three groups of two to four digits (3-3-3, 4-2-3, 2-3-4), no four of which read as a year (2026/11/123);
   - pairs and one other group (18/20/71/649), unless all pairs are below 60, as in a date or a time (24/11/26/083);
   - digit by digit (1/8/2/0/7/1/6/4/9).
   The mark may be doubled; brackets of all forms are one mark. White space may stand around a slash, backslash,
   bar or underscore; around another mark it makes a list or a sum ("102, 145, 210", "123 + 456 + 789"). A comma or
   semicolon is a list's even without, so it counts in 3-3-3 and 4-2-3 alone (182,071,649 as a spreadsheet has it).
4. The 11-proof: the sum of digit times weight 9 8 7 6 5 4 3 2 -1, modulo 11. Remainder 0 is a BSN
   (or sofinummer), remainder 5 an onderwijsnummer. 000000000 is neither.
5. Forms that hold digits and are something else do not count: UUIDs, hexadecimal words of 32 or more
   characters (so also the inside of an ECK iD), dates, school years, phone numbers written with their
   country code.
6. A percent-encoded text (a URL) is also read decoded.

Two of eleven nine-digit numbers pass by chance. A school whose local ids have nine digits declares their
form (`allowed_form`), which is then not taken for a number. Typed business codes (GTIN, order numbers of
a fixed form) are not screened at all: that is for the caller, who knows which field it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final, Literal
from urllib.parse import unquote

from broker.identity.formats import is_eck_id, normalise_digits

__all__ = ["PgnKind", "find_pgn", "screen_bytes"]

PgnKind = Literal["bsn", "onderwijsnummer", "hpgn", "stampseudoniem"]

_DASHES: Final = r"\-\u00ad\u058a\u05be\u2010-\u2015\u2043\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d"
_DOTS: Final = r".\u00b7\u0387\u2022\u2024\u2027\u2219\u22c5\u25cf\u25e6\u2e31\u3002\u30fb\uff0e\uff61\uff65"
# What is not seen between two digits, or only around one of them: joiners, selectors, accents, the box of a keycap.
_INVISIBLE: Final = (
    r"\x00\u0300-\u036f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20f0\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef"
)
_BETWEEN: Final = rf"[\s{_DASHES}{_DOTS}{_INVISIBLE}]*"

# Marks that join parts of one number only under rule 3. Around the first ones white space may stand.
_SPACED: Final = "/\\|_"
_TIGHT: Final = "+=:*~#'\"`^@&!?$"
_LISTED: Final = ",;"
_BRACKETS: Final = r"()\[\]{}<>"
_MARKS: Final = re.escape(_SPACED + _TIGHT + _LISTED) + _BRACKETS
# Signs that look like a mark: the full-width forms, and those of typography and other scripts.
_ALIKE: Final = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {
    sign: mark
    for mark, signs in (
        ("/", "\u2044\u2215\u00f7"), ("|", "\u00a6\u2223\u2502\u2503"), ("_", "\u203f"), (":", "\u2236\ua789"),
        ("*", "\u00d7\u2217"), ("'", "\u2018\u2019\u2032\u00b4"), ('"', "\u201c\u201d\u201e\u2033"),
        (",", "\u060c\u066b\u066c\u3001\u201a"), (";", "\u061b\u037e"),
        ("<", "\u2039\u00ab\u3008\u3010"), (">", "\u203a\u00bb\u3009\u3011"),
    )
    for sign in signs
}  # fmt: skip

# In bytes a control character sets digits apart as white space does; zero bytes are those of UTF-16, and stay.
_CONTROLS: Final = bytes((*range(0x01, 0x09), *range(0x0E, 0x1C), 0x7F))
_SET_APART: Final = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))

# Cheap tests first. In ASCII text, most of what there is, nine digits cannot start anywhere else than here.
_ascii_start = re.compile(rf"[0-9](?:[0-9\s.\-\x00]{{8}}|[0-9\s\x00{_MARKS}]{{10}})").search
_nine_digits = re.compile(rf"[0-9](?:{_BETWEEN}[0-9]){{8}}").search
_chunks = re.compile(rf"[0-9](?:{_BETWEEN}[0-9])*").finditer
# Three groups of digits or more with any marks between them; within one, the whole runs that a certain mark joins.
_marked_runs = re.compile(rf"(?<![0-9])[0-9]++(?:\s{{0,2}}[{_MARKS}]{{1,2}}\s{{0,2}}[0-9]++){{2,}}")
_RUNS: Final = {
    mark: re.compile(rf"(?<![0-9])[0-9]++(?:{around}{re.escape(mark)}{{1,2}}{around}[0-9]++){{2,}}").findall
    for marks, around in ((_SPACED, r"\s{0,2}"), (_TIGHT + _LISTED + "(", ""))
    for mark in marks
}
_bracket = re.compile(f"[{_BRACKETS}]").sub
_groups = re.compile(r"[0-9]+").findall
_unseen = re.compile(rf"[{_INVISIBLE}]+").sub
_alike = re.compile(f"[{re.escape(''.join(_ALIKE))}]").sub
_hex_run = re.compile(r"[0-9a-fA-F]{64}").search
_hex_64 = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])").search
# Wider than the one published form: production uses a path that is not published.
_stampseudoniem = re.compile(r"(?:ketenid\.nl|id\.school)/+sp[0-9a-z_-]*/+[0-9a-f]{8}", re.IGNORECASE).search
_OF_A_LIST: Final = ([3, 3, 3], [4, 2, 3])
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
    between digits counts as invisible; other control characters count as white space. A number in binary form (a
    serialised integer) is not found.
    """
    if len(data) < 9:
        return None
    data = data.translate(_SET_APART)
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
    plain = text
    if text.isascii():
        if _ascii_start(text) is None:
            return None
    else:
        plain = _alike(lambda sign: _ALIKE[sign[0]], normalise_digits(text))
    joined = _nine_digits(plain) is not None
    seen = plain if plain.isascii() and "\x00" not in plain else _unseen("", plain)
    marked = _marked_runs.search(seen) is not None and any(map(_may_hold_nine, _marked_runs.finditer(seen)))
    if not (joined or marked) or (allowed_form is not None and allowed_form.fullmatch(text) is not None):
        return None
    numbers = chain(
        _numbers(_known_forms("x", plain)) if joined else (),
        _marked_numbers(_known_forms("x", seen)) if marked else (),
    )
    return next((kind for digits in numbers if (kind := _eleven_proof(digits)) is not None), None)


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


def _may_hold_nine(run: re.Match[str]) -> bool:
    """Tell a run from a date or a time, which most of them are."""
    return len(_only_digits.sub("", run[0])) >= 9


def _marked_numbers(text: str) -> Iterator[str]:
    """Give every run of nine digits in groups that one mark joins (rule 3 of the module)."""
    for match in _marked_runs.finditer(text):
        marked = _bracket("(", match[0])
        for mark in _RUNS.keys() & set(marked):
            for run in _RUNS[mark](marked):
                groups = _groups(run)
                sizes = [len(group) for group in groups]
                if sum(sizes) == 9 and (sizes in _OF_A_LIST or mark not in _LISTED) and _as_one_number(groups):
                    yield "".join(groups)


def _as_one_number(groups: list[str]) -> bool:
    """Tell whether people write nine digits in these groups, and not a date, a time or a numbering by year."""
    if len(groups) == 3:
        sizes = [len(group) for group in groups]
        return min(sizes) >= 2 and max(sizes) <= 4 and not any(len(g) == 4 and g[:2] in ("19", "20") for g in groups)
    if len(groups) in (4, 5):
        pairs = [group for group in groups if len(group) == 2]
        return len(pairs) == len(groups) - 1 and any(pair >= "60" for pair in pairs)
    return len(groups) == 9


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
