"""Says whether a text has the form of an identifier of the learning-materials chain.

Only the form: that a school, product or pupil exists is not known here. Every pattern is matched on the
whole text and on the digits 0-9 alone. The XSDs of EDEXML 2.1 and UWLR 2.2 use `\\p{Nd}`, which lets
digits of other scripts through; `normalise_digits` turns those into 0-9 where a number is looked for.

Sources: EDEXML 2.1 `EDEXML.types.vast.xsd`, Nummervoorziening reference implementations (HPGN,
stampseudoniem, ECK iD), OIN-Stelsel (OIN), GS1 General Specifications section 7.9 (check digit),
RFC 9562 (UUID). The forms of the ECK iD and of the stampseudoniem are derived from published values:
no published schema constrains them.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "LAS_KEY_MAX_CHARS",
    "is_brin",
    "is_brin6",
    "is_eck_id",
    "is_gtin13",
    "is_hpgn",
    "is_las_key",
    "is_oin",
    "is_product_id",
    "is_school_id",
    "is_school_year",
    "is_stampseudoniem",
    "is_uuid",
    "normalise_digits",
]

LAS_KEY_MAX_CHARS: Final = 256
"""EDEXML 2.1 `EDEXKeyType`, UWLR 2.2: a key has 1 to 256 characters."""

# Bound methods: a lookup less per call on the hot path. `fullmatch`, since `$` lets a final newline through.
_eck_id = re.compile(r"https://ketenid\.nl/(?:201703|pilot)/[0-9a-f]{128}").fullmatch
_stampseudoniem = re.compile(r"https://ketenid\.nl/sppilot/[0-9a-f]{128}").fullmatch
_hpgn = re.compile(r"[0-9a-f]{64}").fullmatch
_brin = re.compile(r"[0-9]{2}[A-Z]{2}").fullmatch
_brin6 = re.compile(r"[0-9]{2}[A-Z]{2}[0-9]{2}").fullmatch
_school_id = re.compile(r"[0-9]{2}[A-Z]{2}(?:[0-9]{2})?").fullmatch
_school_year = re.compile(r"([12][0-9]{3})-([12][0-9]{3})").fullmatch
_uuid = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}").fullmatch
_oin = re.compile(r"[0-9]{8}[0-9A-Z]{12}").fullmatch
_thirteen_digits = re.compile(r"[0-9]{13}").fullmatch
_other_script_digit = re.compile(r"(?![0-9])\d")
_VALUE: Final = {str(digit): digit for digit in range(10)}


def is_eck_id(text: str) -> bool:
    """Tell whether this is an ECK iD: `https://ketenid.nl/` + `201703` or `pilot` + `/` + 128 lower-case hex.

    The earlier `https://id.school/` form (until 29 January 2018) and a stampseudoniem are not.
    """
    return _eck_id(text) is not None


def is_stampseudoniem(text: str) -> bool:
    """Tell whether this is a stampseudoniem as the test environments give it (`/sppilot/`).

    Its production form is not published. To *refuse* stampseudoniemen use `broker.identity.pgn.find_pgn`,
    which is wider.
    """
    return _stampseudoniem(text) is not None


def is_hpgn(text: str) -> bool:
    """Tell whether this has the form of a hashed PGN: the lower-case hex of a 32-byte scrypt output."""
    return _hpgn(text) is not None


def is_brin(text: str) -> bool:
    """Tell whether this is a BRIN: two digits and two capitals (EDEXML 2.1 `EDEXBrincodeType`)."""
    return _brin(text) is not None


def is_brin6(text: str) -> bool:
    """Tell whether this is a BRIN with the two digits of a location (vestiging)."""
    return _brin6(text) is not None


def is_school_id(text: str) -> bool:
    """Tell whether this is a BRIN, with or without a location."""
    return _school_id(text) is not None


def is_school_year(text: str) -> bool:
    """Tell whether this is a school year: `YYYY-YYYY`, the second the year after the first.

    A pattern where EDEXML 2.1 has a closed list (`EDEXSchooljaarType`), which ends with 2024-2025.
    """
    years = _school_year(text)
    return years is not None and int(years[2]) == int(years[1]) + 1


def is_uuid(text: str) -> bool:
    """Tell whether this is a UUID in its text form of 36 characters, in either case (RFC 9562 section 4)."""
    return _uuid(text) is not None


def is_gtin13(text: str) -> bool:
    """Tell whether this is a GTIN-13 (EAN, ISBN-13) with the right check digit: weights 1 and 3, sum mod 10 = 0."""
    if _thirteen_digits(text) is None:
        return False
    digits = [_VALUE[character] for character in text]
    return (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


def is_product_id(text: str) -> bool:
    """Tell whether this names a product: a GTIN-13 (so also an ISBN-13), or a UUID."""
    return is_gtin13(text) if len(text) == 13 else _uuid(text) is not None


def is_oin(text: str) -> bool:
    """Tell whether this is an OIN: 20 positions, a prefix of 8 digits, then digits and capitals.

    Capitals, because an OIN on a BRIN (prefix 00000007) holds the BRIN's letters.
    """
    return _oin(text) is not None


def is_las_key(text: str) -> bool:
    """Tell whether this can be a LAS key: 1 to 256 characters, not all of them white space."""
    return 0 < len(text) <= LAS_KEY_MAX_CHARS and not text.isspace()


def normalise_digits(text: str) -> str:
    """Give the text with every decimal digit of another script (Unicode category Nd) as 0-9.

    NFKC does this for some scripts only (full-width yes, Arabic-Indic no); the Unicode decimal value does
    it for all. The length stays the same.
    """
    if text.isascii():
        return text
    return _other_script_digit.sub(lambda digit: str(int(digit[0])), text)
