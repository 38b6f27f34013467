"""From a pupil's id to the tags by which the store finds leaves: through the vault, with the school's key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from broker.audit.leaf import lookup_tag
from broker.identity.formats import is_school_id
from broker.identity.vault import ECK_ID, Reader, VaultCipher
from broker.policy.words import SECTORS

ID_TYPES: Final = (
    ECK_ID, "LAS_KEY", "LEERLINGNUMMER", "NL_EDU_PERSON_PROFILE_ID", "NL_EDU_PERSON_REAL_ID", "MEDEWERKERNUMMER",
)  # fmt: skip
ID_KINDS: Final = "https://eck-broker.nl/begrippen/id/"
_KIND: Final = re.compile(f"{re.escape(ID_KINDS)}({'|'.join(SECTORS)})/([^/]+)/({'|'.join(ID_TYPES)})").fullmatch


class IdKind(NamedTuple):
    """What kind of id a school has for a pupil; in the Logboek `<ID_KINDS><sector>/<school>/<type>`."""

    sector: str
    school: str
    type: str

    @classmethod
    def of(cls, uri: str) -> IdKind | None:
        """Read it from its URI; None if it is none."""
        found = _KIND(uri)
        return cls(*found.groups()) if found is not None and is_school_id(found[2]) else None


def keys_of(
    cipher: VaultCipher, reader: Reader, schools: Iterable[str], sector: str, id_type: str, value: str
) -> tuple[bytes, ...]:
    """The subject keys of a person; none if nobody is known by this id, or he was erased.

    Args:
        cipher: with the keys of the vault. reader: the vault at this moment.
        schools: the one asked about, under each BRIN that it has or had. No other school's record is looked at: the
            school is part of the key that a record stands under.
        sector: of the enrolment. id_type: one of `ID_TYPES`.

    Raises:
        ConfigError: `vault.key`, if the keys are not those of the vault.
    """
    for school in schools:
        record = cipher.find(reader, cipher.key(sector, school, id_type, value))
        if record is not None and record.school == school:
            return record.subject_keys
    return ()


def tags_of(
    cipher: VaultCipher, reader: Reader, schools: Iterable[str], sector: str, id_type: str, value: str
) -> tuple[bytes, ...]:
    """The tags of a person; else as `keys_of`."""
    return tuple(lookup_tag(key) for key in keys_of(cipher, reader, schools, sector, id_type, value))
