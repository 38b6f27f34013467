"""Counting the pupils of a vault: how many of them something is missing for, per school and sector; never who."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from broker.errors import ConfigError
from broker.identity.vault import VaultCipher

_EPOCH: Final = date(1970, 1, 1)


@dataclass(slots=True)
class PupilCounts:
    """Pupils of one school in one sector.

    Attributes:
        pupils: that have not left. left: that have; they count nowhere else.
        no_eck_id: without one. age_unknown: nobody said whether they are under 16.
        parents_unknown: nobody said whether the parents were informed.
        may_need_consent: under 16, or of unknown age.
        consents: of these, how many have a parent's consent, by product.
    """

    pupils: int = 0
    left: int = 0
    no_eck_id: int = 0
    age_unknown: int = 0
    parents_unknown: int = 0
    may_need_consent: int = 0
    consents: Counter[str] = field(default_factory=Counter)

    def without_consent(self, product: str) -> int:
        """How many pupils may need a parent's consent for a product and have none."""
        return self.may_need_consent - self.consents[product]

    def __add__(self, other: PupilCounts) -> PupilCounts:
        return PupilCounts(
            self.pupils + other.pupils,
            self.left + other.left,
            self.no_eck_id + other.no_eck_id,
            self.age_unknown + other.age_unknown,
            self.parents_unknown + other.parents_unknown,
            self.may_need_consent + other.may_need_consent,
            self.consents + other.consents,
        )


class _Pupil(NamedTuple):
    """What counts of a pupil; equal for very many of them, so it is kept once."""

    school: str
    sector: str
    left_on: int | None
    has_eck_id: bool
    under_16: bool | None
    parents_informed: bool | None
    consents: frozenset[str]


class Census:
    """Reads the records of `vault.identity` in their order, later ones in the place of earlier ones.

    A pupil stands in the vault under each of his ids; he is counted under the first. What is kept of him is that key (a
    keyed hash) and what is counted.

    Args:
        cipher: with the keys of the vault.
    """

    def __init__(self, cipher: VaultCipher) -> None:
        self._cipher = cipher
        self._found: dict[bytes, _Pupil] = {}
        self._known: dict[_Pupil, _Pupil] = {}
        self._unread: set[bytes] = set()  # under a key that was destroyed, if a later record takes its place

    def put(self, key: bytes, raw: bytes | None) -> None:
        """Take one record; None: it was erased."""
        self._found.pop(key, None)
        self._unread.discard(key)
        if raw is None:
            return
        try:
            record = self._cipher.decrypt(key, raw)
        except ConfigError:
            self._unread.add(key)
            return
        if record.kind != "PUPIL" or self._cipher.keys(record)[0] != key:
            return
        flags = record.flags
        pupil = _Pupil(
            record.school, record.sector, record.left_on, record.eck_id is not None, flags.under_16,
            flags.parents_informed, frozenset(product for product, _ in flags.consents),
        )  # fmt: skip
        self._found[key] = self._known.setdefault(pupil, pupil)

    def counts(self, on: date) -> Mapping[tuple[str, str], PupilCounts]:
        """By school, as the vault has it, and sector.

        Args:
            on: who left before this day has left.

        Raises:
            ConfigError: `vault.key`: the vault was written under other keys.
        """
        if self._unread:
            raise ConfigError(
                f"{len(self._unread)} records of the vault do not open: the keys given are not those they were written "
                "with",
                code="vault.key",
            )
        today = (on - _EPOCH).days
        found: dict[tuple[str, str], PupilCounts] = {}
        for pupil in self._found.values():
            counts = found.setdefault((pupil.school, pupil.sector), PupilCounts())
            if pupil.left_on is not None and pupil.left_on < today:
                counts.left += 1
                continue
            counts.pupils += 1
            counts.no_eck_id += not pupil.has_eck_id
            counts.age_unknown += pupil.under_16 is None
            counts.parents_unknown += pupil.parents_informed is None
            if pupil.under_16 is not False:
                counts.may_need_consent += 1
                counts.consents.update(pupil.consents)
        return found
