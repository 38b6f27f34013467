"""The PGN screen: what it must find in whatever disguise, and what it must leave alone.

Personal numbers here are published test numbers or generated ones.
"""

from __future__ import annotations

import re
import time
import unicodedata
import uuid
from datetime import date
from datetime import time as dt_time
from hashlib import sha256, sha512
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.identity.pgn import find_pgn, screen_bytes

# Published: Topicus ElfProef, Nummervoorziening reference implementation, EDEXML 2.1 example.
BSNS = ["182071649", "063138219", "123456782", "111222333"]
ONDERWIJSNUMMERS = ["100310303", "100729533", "133456785"]
HPGN = "9735dfd2235eaeb5f0300886bcc99c82ffc1d6420c4e0bde8de7218def2135fa"
STAMPSEUDONIEM = (
    "https://ketenid.nl/sppilot/d0f58d6544562db32383d9fbd7e7d1c6857f9eb8fdaf43db9ac4fac8f3c6897c"
    "c6149985fe4a7b91b9be09a11c65b6bfd4d900357b0c96336b5521aaee261cf7"
)
WEIGHTS = (9, 8, 7, 6, 5, 4, 3, 2, -1)
ZEROS = [chr(code) for code in range(0x110000) if unicodedata.decimal(chr(code), -1) == 0]
SEPARATORS = [
    "",
    "",
    " ",
    ".",
    "-",
    "  ",
    " - ",
    "\u00a0",
    "\u2009",
    "\u2011",
    "\u2013",
    "\u00ad",
    "\u200b",
    "\t",
    "\n",
]


def remainder(number: str) -> int:
    return sum(int(digit) * weight for digit, weight in zip(number, WEIGHTS, strict=True)) % 11


def numbers(rest: int) -> st.SearchStrategy[str]:
    """Nine-digit numbers whose 11-proof leaves this remainder."""

    def complete(first: str) -> str | None:
        last = (remainder(first + "0") - rest) % 11
        return first + str(last) if last < 10 and first + str(last) != "000000000" else None

    eight = st.from_regex(r"[0-9]{8}", fullmatch=True)
    return eight.map(complete).filter(lambda number: number is not None).map(str)


PGNS = st.one_of(numbers(0).map(lambda n: (n, "bsn")), numbers(5).map(lambda n: (n, "onderwijsnummer")))
WORDS = st.text(
    st.characters(exclude_categories=["Nd", "Cs", "Zs", "Cc", "Cf", "Pd"], exclude_characters=".·․‧・．%+()"),
    max_size=10,
)


@pytest.mark.parametrize("number", BSNS)
def test_a_published_bsn_is_found(number: str) -> None:
    """Remainder 0 of the 11-proof is a BSN."""
    assert find_pgn(number) == "bsn"


@pytest.mark.parametrize("number", ONDERWIJSNUMMERS)
def test_a_published_onderwijsnummer_is_found(number: str) -> None:
    """Remainder 5 is an onderwijsnummer, also the one the official example has in its `<bsn>`."""
    assert find_pgn(number) == "onderwijsnummer"


@pytest.mark.parametrize(
    "text", ["123456789", "000000000", "0000 00000", "63138219", "1820716490", "0182071649", "", "L0001"]
)
def test_other_numbers_are_left_alone(text: str) -> None:
    """A failing 11-proof, all zeros, eight or ten digits: nothing."""
    assert find_pgn(text) is None


@given(PGNS)
def test_every_number_that_passes_is_found_and_told_apart(pgn: tuple[str, str]) -> None:
    """For every generated number the kind is the one its remainder says."""
    number, kind = pgn
    assert find_pgn(number) == kind


@given(st.from_regex(r"[0-9]{9}", fullmatch=True))
def test_a_number_with_another_remainder_is_not_found(number: str) -> None:
    """Only remainders 0 and 5 count, and never 000000000."""
    expected = {0: "bsn", 5: "onderwijsnummer"}.get(remainder(number)) if number != "000000000" else None
    assert find_pgn(number) == expected


@given(PGNS, st.lists(st.sampled_from(SEPARATORS), min_size=8, max_size=8), WORDS, WORDS)
def test_separators_and_text_around_do_not_hide_a_number(
    pgn: tuple[str, str], separators: list[str], before: str, after: str
) -> None:
    """Dots, dashes, spaces and invisible characters between digits, and any text around, change nothing.

    Except for what reads as a whole date and a digit, or a school year and a digit: those forms win.
    """
    number, kind = pgn
    spread = number[0] + "".join(s + d for s, d in zip(separators, number[1:], strict=True))
    if re.search(r"[12][0-9]{3}-|[-.](19|20)[0-9]{2}", spread):
        return
    assert find_pgn(f"{before} {spread} {after}") == kind
    assert find_pgn(f"{before}{spread}{after}") == kind


@given(PGNS, st.lists(st.sampled_from(ZEROS), min_size=9, max_size=9))
def test_digits_of_other_scripts_do_not_hide_a_number(pgn: tuple[str, str], zeros: list[str]) -> None:
    """Each digit in a script of its own (Arabic-Indic, full-width, mathematical …) is still that digit."""
    number, kind = pgn
    assert find_pgn("".join(chr(ord(zero) + int(d)) for zero, d in zip(zeros, number, strict=True))) == kind


@given(PGNS)
def test_a_number_in_a_url_is_found(pgn: tuple[str, str]) -> None:
    """In the path, in the query with + or %20 around it, and percent-encoded digit by digit."""
    number, kind = pgn
    encoded = "".join(f"%{ord(digit):02X}" for digit in number)
    for url in (
        f"https://school.example/leerling/{number}",
        f"https://school.example/?q=leerling+{number}&x=1",
        f"https://school.example/?q=nr%20{number}%20x",
        f"https://school.example/{encoded}",
        quote(f"https://school.example/?naam=Zoë {number}", safe=""),
    ):
        assert find_pgn(url) == kind, url


@given(PGNS, st.integers(0, 99999))
def test_a_number_set_apart_from_other_digits_is_found(pgn: tuple[str, str], other: int) -> None:
    """A group, year or second number beside it does not make it part of a longer run."""
    number, kind = pgn
    for text in (f"klas-{other}-{number}.jpg", f"{other}, {number}", f"{number}-{other}x", f"a{number}b"):
        assert find_pgn(text) is not None, text
    assert find_pgn(f"2026-08-17 {number}") == kind
    assert find_pgn(f"2026-2027 {number}") == kind
    assert find_pgn(f"{number} {number}") == kind


# ---- groups that another mark joins

SPACED, TIGHT, LISTED = "/\\|_", "+=:*~#'\"`^@&!?$", ",;"
BRACKETS = ["(", ")", "[", "]", "{", "}", "<", ">", ")(", "][", "}{", "> <".replace(" ", "")]
THREES = [(3, 3, 3), (4, 2, 3), (4, 3, 2), (2, 3, 4), (2, 4, 3), (3, 2, 4), (3, 4, 2)]
PAIRS = [(2, 2, 2, 3), (2, 2, 3, 2), (2, 3, 2, 2), (3, 2, 2, 2), (1, 2, 2, 2, 2), (2, 2, 2, 2, 1), (2, 2, 1, 2, 2)]
ONES = (1,) * 9


def grouped(number: str, sizes: tuple[int, ...]) -> list[str]:
    """The number's digits in groups of these sizes."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [number[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def reads_as_a_moment(groups: list[str]) -> bool:
    """A year, or pairs that could all be of a date or a time."""
    if len(groups) == 3:
        return any(len(group) == 4 and group.startswith(("19", "20")) for group in groups)
    return len(groups) in (4, 5) and all(group < "60" for group in groups if len(group) == 2)


@pytest.mark.parametrize("mark", [*SPACED, *TIGHT, *LISTED, *BRACKETS, *"·•。", "\u00a0", "\u2009", "\u200b", "\u2060"])
@pytest.mark.parametrize("number", [*BSNS, *ONDERWIJSNUMMERS])
def test_a_published_number_in_threes_is_found_whatever_joins_them(number: str, mark: str) -> None:
    """182/071/649 and the like: one mark between three groups of three."""
    kind = "bsn" if number in BSNS else "onderwijsnummer"
    text = mark.join(grouped(number, (3, 3, 3)))
    assert find_pgn(text) == kind
    assert find_pgn(f"leerling {text}, groep 7") == kind
    assert screen_bytes(text.encode()) == kind


@given(PGNS, st.sampled_from([*SPACED, *TIGHT, *BRACKETS]), st.sampled_from([*THREES, *PAIRS, ONES]), WORDS, WORDS)
def test_one_mark_between_the_groups_of_a_number_does_not_hide_it(
    pgn: tuple[str, str], mark: str, sizes: tuple[int, ...], before: str, after: str
) -> None:
    """In every grouping in which people write nine digits, in any text; but for what reads as a date or a time."""
    number, kind = pgn
    groups = grouped(number, sizes)
    text = mark.join(groups)
    expected = None if reads_as_a_moment(groups) else kind
    assert find_pgn(text) == expected
    assert find_pgn(f"{before} {text} {after}") == expected
    assert find_pgn(quote(text, safe="")) == expected


@given(
    PGNS,
    st.sampled_from(SPACED),
    st.sampled_from(THREES),
    st.sampled_from([" {} ", "{} ", " {}", "\u200b{}", "{0}{0}"]),
)
def test_white_space_around_a_slash_and_the_like_does_not_hide_a_number(
    pgn: tuple[str, str], mark: str, sizes: tuple[int, ...], around: str
) -> None:
    """ "182 / 071 / 649"; nor does a mark that is doubled, or an invisible character beside it."""
    number, kind = pgn
    groups = grouped(number, sizes)
    expected = None if reads_as_a_moment(groups) else kind
    assert find_pgn(around.format(mark).join(groups)) == expected


@given(
    PGNS,
    st.sampled_from(
        ["\uff0f", "\u2044", "\u2215", "\uff3f", "\uff1a", "\uff0b", "\uff5c", "\uff0c", "\u2019", "\u00d7", "\u00bb"]
    ),
)
def test_a_sign_that_looks_like_a_mark_is_one(pgn: tuple[str, str], sign: str) -> None:
    """Full-width slashes and colons, the fraction slash, a typographer's apostrophe; with digits of any script."""
    number, kind = pgn
    for zero in ("0", "\uff10", "\u0660"):
        written = "".join(chr(ord(zero) + int(digit)) for digit in number)
        assert find_pgn(sign.join(grouped(written, (3, 3, 3)))) == kind


@given(PGNS, st.sampled_from(["\ufe0f\u20e3", "\u0332", "\u034f", "\u2062", "\U000e0020"]))
def test_what_is_not_seen_between_digits_does_not_hide_a_number(pgn: tuple[str, str], unseen: str) -> None:
    """The box of a keycap, an underline, joiners: the reader sees nine digits."""
    number, kind = pgn
    assert find_pgn("".join(digit + unseen for digit in number)) == kind
    assert find_pgn("/".join(group + unseen for group in grouped(number, (3, 3, 3)))) == kind


@given(
    PGNS, st.sampled_from([*SPACED, *TIGHT, *LISTED, "("]), st.from_regex(r"[0-9]{1,6}", fullmatch=True), st.booleans()
)
def test_a_longer_run_that_one_mark_joins_is_never_cut(pgn: tuple[str, str], mark: str, more: str, first: bool) -> None:
    """Ten digits or more are another number, as without marks."""
    groups = grouped(pgn[0], (3, 3, 3))
    assert find_pgn(mark.join([more, *groups] if first else [*groups, more])) is None


@given(PGNS, st.sampled_from(SPACED), st.sampled_from(":="), st.integers(0, 9))
def test_a_run_ends_where_another_mark_stands(pgn: tuple[str, str], mark: str, other: str, figure: int) -> None:
    """ "id=7:182/071/649": the number is whole by its own mark."""
    number, kind = pgn
    text = mark.join(grouped(number, (3, 3, 3)))
    assert find_pgn(f"id{other}{figure}{other}{text}") == kind
    assert find_pgn(f"{text}{other}{figure}") == kind
    assert find_pgn(f"2026-11-24{mark}{text}") == kind


DAYS = st.dates(date(1900, 1, 1), date(2059, 12, 31)).filter(lambda day: day.year % 100 < 60)


@given(DAYS, st.times(), st.integers(0, 999), st.sampled_from("/:_|"))
def test_dates_times_and_what_is_numbered_by_them_are_left_alone(
    day: date, at: dt_time, number: int, mark: str
) -> None:
    """By day and by time, and with a number behind, as invoices and files have it."""
    as_written, sorted_by = day.strftime(f"%d{mark}%m{mark}%Y"), day.strftime(f"%Y{mark}%m{mark}%d")
    for text in (
        as_written,
        f"van {as_written} tot {as_written}",
        f"{as_written} {at:%H:%M}",
        f"{sorted_by}{mark}{number % 10}",
        f"{day:%Y}{mark}{day:%m}{mark}{number:03d}",
        f"{number:03d}{mark}{day:%m}{mark}{day:%Y}",
        f"{day:%d}{mark}{day:%m}{mark}{day:%y}{mark}{number:03d}",
        f"{at:%H:%M:%S}:{number:03d}",
        f"{at:%H:%M:%S},{number:03d}",
    ):
        assert find_pgn(text) is None, text


@given(
    st.lists(st.integers(0, 99_999), min_size=2, max_size=12), st.sampled_from([", ", "; ", " + ", " = ", ": ", " & "])
)
def test_lists_and_sums_are_left_alone(figures: list[int], between: str) -> None:
    """Pages, group numbers, exercises: what white space and a mark set apart are numbers of their own."""
    text = between.join(map(str, figures))
    assert find_pgn(text) is None or any(len(str(figure)) == 9 for figure in figures), text


@given(st.lists(st.integers(0, 9), min_size=9, max_size=9), st.sampled_from(LISTED))
def test_scores_of_nine_items_are_left_alone(scores: list[int], mark: str) -> None:
    """A list of single digits is a list."""
    assert find_pgn(mark.join(map(str, scores))) is None


@given(PGNS, st.sampled_from(SPACED + TIGHT), st.integers(1, 8))
def test_two_numbers_with_a_mark_between_are_two_numbers(pgn: tuple[str, str], mark: str, cut: int) -> None:
    """Course and lesson in a path, a year and what is counted in it: nobody breaks a number once."""
    assert find_pgn(f"{pgn[0][:cut]}{mark}{pgn[0][cut:]}") is None


@given(PGNS, st.sampled_from(["\x01", "\x08", "\x0e", "\x1f", "\x7f"]))
def test_control_characters_hide_nothing_in_a_key_or_header(pgn: tuple[str, str], control: str) -> None:
    """Texts that hold one are refused; keys and headers may be any bytes."""
    number, kind = pgn
    assert screen_bytes(control.join(number).encode()) == kind
    assert screen_bytes(f"7{control}{number}{control}8".encode()) == kind
    assert screen_bytes(f"{control}/".join(grouped(number, (3, 3, 3))).encode()) == kind


# ---- what is left alone


@given(st.from_regex(r"[1-9][0-9]{8}", fullmatch=True))
@example("182071649")
@example("612345678")
def test_phone_numbers_are_left_alone(subscriber: str) -> None:
    """With trunk zero or country code, in the usual ways to write them: no nine digits are cut out."""
    s = subscriber
    for text in (
        f"0{s}",
        f"06{s[1:]}",
        f"06-{s[1:]}",
        f"06 {s[1:3]} {s[3:5]} {s[5:7]} {s[7:]}",
        f"0{s[:2]}-{s[2:]}",
        f"(0{s[:2]}) {s[2:]}",
        f"+31{s}",
        f"+31 {s}",
        f"+31-{s}",
        f"+31 (0){s}",
        f"+31 (0)6 {s[1:]}",
        f"0031 {s}",
        f"tel. +31 {s[:2]} {s[2:]}, of mail",
    ):
        assert find_pgn(text) is None, text


@given(st.from_regex(r"[0-9]{10,40}", fullmatch=True))
def test_a_longer_unbroken_run_is_never_cut(digits: str) -> None:
    """Ten digits or more are another number, wherever a BSN may sit in them."""
    assert find_pgn(digits) is None
    assert find_pgn(f"nr {digits}!") is None


@pytest.mark.parametrize(
    "text",
    [
        "978-94-93113-86-2",
        "9789493113862",
        "NL91ABNA0417164300",
        "2026-08-17T08:47:34",
        "2026-08-17 8 leerlingen",
        "17-08-2026 8 leerlingen",
        "2026-2027 4 groepen",
        "0000000700019HY34567",
        "00-a1b2c3d4e5f60718293a4b5c6d7e8f90-00f067aa0ba902b7-01",
    ],
)
def test_other_numbers_of_the_chain_are_left_alone(text: str) -> None:
    """ISBN, IBAN, time stamps, dates, school years, OIN and trace ids are no personal numbers."""
    assert find_pgn(text) is None


@given(st.binary(min_size=8, max_size=8))
def test_the_inside_of_an_eck_id_is_left_alone(seed: bytes) -> None:
    """Whatever digits the 128 hexadecimal characters hold; as a whole value, in a text and in a URL."""
    hexadecimal = sha512(seed).hexdigest()
    for form in ("201703", "pilot"):
        eck_id = f"https://ketenid.nl/{form}/{hexadecimal}"
        assert find_pgn(eck_id) is None
        assert find_pgn(f"leerling {eck_id}, groep 7") is None
        assert find_pgn(f"https://x.example/?id={quote(eck_id, safe='')}") is None
        assert screen_bytes(eck_id.encode()) is None


def test_an_eck_id_whose_hex_holds_a_bsn_is_left_alone() -> None:
    """Nine digits with letters on both sides, in the middle of the pseudonym, are chance."""
    eck_id = "https://ketenid.nl/pilot/" + "a182071649b".ljust(128, "c")
    assert find_pgn(eck_id) is None
    assert find_pgn(f"x {eck_id} y") is None
    assert find_pgn(f"x {eck_id} y 063138219") == "bsn"


@given(st.uuids())
@example(uuid.UUID("22461075-07b8-4a17-ab18-a182071649bc"))
def test_uuids_are_left_alone(value: uuid.UUID) -> None:
    """One in a thousand would hold a number by chance; event ids and local ids are often UUIDs."""
    assert find_pgn(str(value)) is None
    assert find_pgn(f"leerling {value}") is None


@given(st.binary(max_size=16))
def test_an_hpgn_is_found_in_either_case(seed: bytes) -> None:
    """64 hexadecimal characters on their own; half as many, or twice, are something else."""
    hexadecimal = sha256(seed).hexdigest()
    assert find_pgn(hexadecimal) == "hpgn"
    assert find_pgn(f"x={hexadecimal.upper()};") == "hpgn"
    assert find_pgn(hexadecimal * 2) is None


def test_the_published_hpgn_and_stampseudoniem_are_found() -> None:
    """Also in a text, in other case, percent-encoded, and under the older host."""
    assert find_pgn(HPGN) == "hpgn"
    assert find_pgn(STAMPSEUDONIEM) == "stampseudoniem"
    assert find_pgn(f"zie {STAMPSEUDONIEM.upper()}.") == "stampseudoniem"
    assert find_pgn(quote(STAMPSEUDONIEM, safe="")) == "stampseudoniem"
    assert find_pgn(STAMPSEUDONIEM.replace("ketenid.nl", "id.school")) == "stampseudoniem"
    assert find_pgn(STAMPSEUDONIEM.replace("sppilot", "sp201703")) == "stampseudoniem"


def test_a_declared_local_form_is_not_taken_for_a_number() -> None:
    """A school with nine-digit local ids declares it; the text must be of that form from end to end."""
    form = re.compile(r"[0-9]{9}")
    assert find_pgn("182071649", allowed_form=form) is None
    assert screen_bytes(b"182071649", allowed_form=form) is None
    assert find_pgn("leerling 182071649", allowed_form=form) == "bsn"


def test_a_declared_local_form_never_lets_a_hash_or_stampseudoniem_through() -> None:
    """However wide the form is."""
    form = re.compile(r".*")
    assert find_pgn(HPGN, allowed_form=form) == "hpgn"
    assert find_pgn(STAMPSEUDONIEM, allowed_form=form) == "stampseudoniem"


@given(PGNS, st.sampled_from(["utf-8", "latin-1", "utf-16", "utf-16-be", "utf-16-le"]))
def test_a_number_in_a_key_or_header_is_found_in_every_encoding(pgn: tuple[str, str], encoding: str) -> None:
    """A record key says not how it is encoded."""
    number, kind = pgn
    assert screen_bytes(number.encode(encoding)) == kind
    assert screen_bytes(f"leerling {number}".encode(encoding)) == kind


def test_bytes_that_are_no_utf8_are_screened_all_the_same() -> None:
    """Broken UTF-8 and Latin-1 with a no-break space between the digits both give the number away."""
    assert screen_bytes(b"\xff\xfe\x80182071649\x80") == "bsn"
    assert screen_bytes(b"Zo\xeb 182\xa0071\xa0649") == "bsn"
    assert screen_bytes("Zoë ١٨٢٠٧١٦٤٩".encode() + b"\xff") == "bsn"


@given(st.binary(max_size=64))
def test_any_bytes_can_be_screened(data: bytes) -> None:
    """Never an exception, always a kind or None."""
    assert screen_bytes(data) in {None, "bsn", "onderwijsnummer", "hpgn", "stampseudoniem"}


@given(st.text())
def test_any_text_can_be_screened(text: str) -> None:
    """Never an exception, always a kind or None."""
    assert find_pgn(text) in {None, "bsn", "onderwijsnummer", "hpgn", "stampseudoniem"}


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 100_000,
        "1" + " " * 200_000,
        "1" * 200_000,
        "1234567890a" * 20_000,
        "0." * 100_000,
        "1/" * 100_000,
        "123/" * 50_000,
        "1" + "/ " * 100_000,
        "1, 23; " * 30_000,
        "(1)" * 50_000,
        " " * 200_000,
        "é" + "1\u0301" * 50_000,
        "%31" * 50_000,
        "/sp" * 50_000,
    ],
)
def test_hostile_texts_take_time_in_proportion_to_their_length(text: str) -> None:
    """No pattern backtracks over the whole text: 200 kB take well under five seconds on any machine."""
    started = time.monotonic()
    find_pgn(text)
    assert time.monotonic() - started < 5
