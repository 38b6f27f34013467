"""The forms of identifiers, tried on published values."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.identity import formats

# Published values: Nummervoorziening reference implementation, SEM Ecosysteem, UWLR and doorstroomtoets samples.
ECK_IDS = [
    "https://ketenid.nl/201703/1a5c9c7203901866532c2d72ce056e1d29cacc70836fe2bc3a517f3f9a53eed3"
    "d77ef370ad6dcf80b3f34ced1c547c7d2e679e8e47002355f938213b3656b206",
    "https://ketenid.nl/201703/a4b1f23f608da30d1f34c8890d9f32bbd46ac9c1268dfc44bf44c0821d9b9e35"
    "5be6732385700d8ff04fc99e1276ecb66d9fd3ec415206d3ede3e6b4fb12108a",
    "https://ketenid.nl/pilot/7a73090b3ed60286fad2d1963c1bf610b3521027176cf38a23f3e1db12378e6ed"
    "74aac7b41e49be14fca764c8ddb495ac0076078b3b2bcfdcb1825d461e81960",
    "https://ketenid.nl/pilot/5889fc51565c5488833c42cb2b724c67107bb250be8ed99c881c89632adc37b05d"
    "d197ee95af1c75be47cb7f9a593ad9ddb2e1f25d2e52c90dbb8dcae4515763",
]
STAMPSEUDONIEM = (
    "https://ketenid.nl/sppilot/d0f58d6544562db32383d9fbd7e7d1c6857f9eb8fdaf43db9ac4fac8f3c6897c"
    "c6149985fe4a7b91b9be09a11c65b6bfd4d900357b0c96336b5521aaee261cf7"
)
HPGN = "9735dfd2235eaeb5f0300886bcc99c82ffc1d6420c4e0bde8de7218def2135fa"
OINS = [
    "0000000700019HY34567",
    "0000000700012TB34567",
    "0000000700099GP40146",
    "0000000700011BB00530",
    "0000000700011BB00000",
]


@pytest.mark.parametrize("text", ECK_IDS)
def test_published_eck_ids_are_eck_ids(text: str) -> None:
    """Both forms in use, `201703` and `pilot`, are taken."""
    assert formats.is_eck_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://id.school/abcde",
        "eckid_L20",
        "eck1",
        "12345678",
        "",
        STAMPSEUDONIEM,
        ECK_IDS[0] + "\n",
        " " + ECK_IDS[0],
        ECK_IDS[0].upper(),
        ECK_IDS[0][:-1],
        ECK_IDS[0] + "0",
        ECK_IDS[0].replace("https", "http"),
        ECK_IDS[0].replace("ketenid.nl", "ketenidxnl"),
        ECK_IDS[0][:-1] + "٣",
    ],
)
def test_what_is_seen_in_eckid_fields_and_is_none_is_refused(text: str) -> None:
    """Legacy forms, free text, a stampseudoniem, and near misses of the pattern are no ECK iD."""
    assert not formats.is_eck_id(text)


def test_a_stampseudoniem_is_known_by_its_path() -> None:
    """The published stampseudoniem is one; an ECK iD is not."""
    assert formats.is_stampseudoniem(STAMPSEUDONIEM)
    assert not formats.is_stampseudoniem(ECK_IDS[2])


def test_an_hpgn_is_64_lower_case_hex_characters() -> None:
    """The published HPGN is one; other lengths and capitals are not."""
    assert formats.is_hpgn(HPGN)
    assert not formats.is_hpgn(HPGN.upper())
    assert not formats.is_hpgn(HPGN[:-1])
    assert not formats.is_hpgn(HPGN + "\n")


@pytest.mark.parametrize("text", ["99DE", "99ZZ", "00YY"])
def test_a_brin_is_two_digits_and_two_capitals(text: str) -> None:
    """A BRIN is a school id, and not yet a location."""
    assert formats.is_brin(text)
    assert formats.is_school_id(text)
    assert not formats.is_brin6(text)


@pytest.mark.parametrize("text", ["11ZZ03", "99DE00"])
def test_a_brin6_adds_two_digits(text: str) -> None:
    """A location is a school id, and no plain BRIN."""
    assert formats.is_brin6(text)
    assert formats.is_school_id(text)
    assert not formats.is_brin(text)


@pytest.mark.parametrize("text", ["", "99de", "9DE", "99DEE", "99DE\n", "99DE0", "99DE000", "٩٩DE", "99ÄÖ", "DE99"])
def test_other_scripts_and_lengths_are_no_school_id(text: str) -> None:
    """What the XSD's `\\p{Nd}` and `\\p{Lu}` would take is refused, as is every other length."""
    assert not formats.is_school_id(text)
    assert not formats.is_brin(text)
    assert not formats.is_brin6(text)


@pytest.mark.parametrize("text", ["2024-2025", "2025-2026", "2026-2027", "1999-2000"])
def test_a_school_year_is_two_years_in_a_row(text: str) -> None:
    """Also after 2024-2025, where the list of EDEXML 2.1 ends."""
    assert formats.is_school_year(text)


@pytest.mark.parametrize("text", ["2024-2026", "2025-2024", "24-25", "2024/2025", "2024-2025\n", "٢٠٢٤-٢٠٢٥", ""])
def test_other_year_pairs_are_no_school_year(text: str) -> None:
    """A wrong second year, separator, script or a final newline is refused."""
    assert not formats.is_school_year(text)


@pytest.mark.parametrize("text", ["8717927130834", "9789493113862"])
def test_a_gtin13_has_the_right_check_digit(text: str) -> None:
    """The published ones pass, and are product ids."""
    assert formats.is_gtin13(text)
    assert formats.is_product_id(text)


@pytest.mark.parametrize(
    "text", ["8717927130835", "9789493113863", "978949311386", "97894931138620", "978949311386٢", "9789493113862\n", ""]
)
def test_a_wrong_check_digit_or_length_is_no_gtin13(text: str) -> None:
    """One off in the last digit is found, as are other lengths and scripts."""
    assert not formats.is_gtin13(text)
    assert not formats.is_product_id(text)


@given(st.from_regex(r"[0-9]{12}", fullmatch=True), st.integers(0, 12), st.integers(1, 9))
def test_a_gtin13_finds_every_single_wrong_digit(first: str, at: int, shift: int) -> None:
    """GS1's check digit law: exactly one last digit is right, and changing any one digit breaks it."""
    right = [first + last for last in "0123456789" if formats.is_gtin13(first + last)]
    assert len(right) == 1
    changed = right[0][:at] + str((int(right[0][at]) + shift) % 10) + right[0][at + 1 :]
    assert not formats.is_gtin13(changed)


@given(st.uuids())
def test_every_uuid_is_a_uuid_and_a_product_id(value: object) -> None:
    """In lower and in upper case."""
    assert formats.is_uuid(str(value))
    assert formats.is_uuid(str(value).upper())
    assert formats.is_product_id(str(value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22461075-07b8-4a17-ab18-71b8455aa7a",
        "22461075-07b8-4a17-ab18-71b8455aa7a3\n",
        "{22461075-07b8-4a17-ab18-71b8455aa7a3}",
        "2246107507b84a17ab1871b8455aa7a3",
        "22461075-07b8-4a17-ab18-71b8455aa7ag",
    ],
)
def test_other_ways_to_write_a_uuid_are_not_taken(text: str) -> None:
    """One form only, so that two spellings are never two ids."""
    assert not formats.is_uuid(text)


@pytest.mark.parametrize("text", OINS)
def test_an_oin_may_hold_the_letters_of_a_brin(text: str) -> None:
    """The published school OINs pass; twenty digits pass too."""
    assert formats.is_oin(text)
    assert formats.is_oin("00000003123456780000")


@pytest.mark.parametrize("text", ["", OINS[0][:-1], OINS[0] + "0", OINS[0].lower(), "A" + OINS[0][1:], OINS[0] + "\n"])
def test_other_lengths_and_lower_case_are_no_oin(text: str) -> None:
    """An OIN has twenty positions and a numeric prefix."""
    assert not formats.is_oin(text)


def test_a_las_key_has_1_to_256_characters_and_says_something() -> None:
    """EDEXKeyType's length, and not white space only."""
    assert formats.is_las_key("1")
    assert formats.is_las_key("x" * 256)
    assert not formats.is_las_key("")
    assert not formats.is_las_key("x" * 257)
    assert not formats.is_las_key(" \t")


def test_digits_of_every_script_become_0_to_9() -> None:
    """By Unicode decimal value, for all scripts this Python knows, also those NFKC leaves alone."""
    for code in range(128, sys.maxunicode + 1):
        character = chr(code)
        if character.isdecimal():
            assert formats.normalise_digits(f"a{character}b") == f"a{unicodedata.decimal(character)}b"


@given(st.text())
def test_normalising_keeps_length_and_all_that_is_no_digit(text: str) -> None:
    """Only decimal digits change, each for one character; a second time changes nothing."""
    result = formats.normalise_digits(text)
    assert len(result) == len(text)
    assert all(new == old for new, old in zip(result, text, strict=True) if not old.isdecimal())
    assert formats.normalise_digits(result) == result


def test_the_public_names_are_the_ones_announced() -> None:
    """`__all__` is sorted and holds every public function of the module."""
    public = {
        name
        for name, value in vars(formats).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == formats.__name__
    }
    assert public | {"LAS_KEY_MAX_CHARS"} == set(formats.__all__)
    assert sorted(formats.__all__) == formats.__all__
