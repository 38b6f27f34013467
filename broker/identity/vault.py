"""The vault: which local id is which pupil, per school and sector; encrypted before it reaches Kafka.

An enrolment stands under the keyed hash of each of its ids, local ids and ECK iD alike, so that the swap works
in both directions and only within one school (promise P8): the school is part of the hash.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.crypto import KeyedHash, seal
from broker.errors import ConfigError, ContractError, TransientError
from broker.schemas import JsonObject, catalogue

ECK_ID: Final = "ECK_ID"
#: Names of the secrets that have versions: of vault records, and the master of the schools' keys.
RECORDS: Final = "vault-records"
SCHOOLS: Final = "school-keys"
SUBJECT_KEY_BYTES: Final = 32
_NONCE: Final = 12
_NO_FORMER_KEYS: Final = b"\0"  # an array without items (Avro specification 1.12, "Binary Encoding")

UserIds = tuple[tuple[str, str], ...]
#: A secret of 32 bytes, or all its versions by their number.
Secret = bytes | Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Flags:
    """What the school says about a person, as far as a condition of the policy asks it; None: not said.

    Args:
        school_account: has an account of the school (R25).
        parents_informed: the parents (from 16: the pupil) were told that addresses go to publishers (R24).
        objection: they objected.
        under_16: so parental consent is needed for free tools (R26).
        consents: (product, reference) of each consent that is in force.
    """

    school_account: bool | None = None
    parents_informed: bool | None = None
    objection: bool | None = None
    under_16: bool | None = None
    consents: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class VaultRecord:
    """One enrolment. Its repr shows no identifiers.

    Args:
        kind: PUPIL or EMPLOYEE.
        user_ids: (type, value) of each local id.
        left_on: days since 1970; the last day of the enrolment.
        subject_key: Ks of the audit log (32 bytes), from which tokens and salts are made.
        former_keys: those of enrolments that a MERGE made one with this one: older leaves are under them.
    """

    school: str
    sector: str
    kind: str
    eck_id: str | None = field(repr=False)
    user_ids: UserIds = field(repr=False)
    left_on: int | None
    subject_key: bytes = field(repr=False)
    flags: Flags = Flags()
    former_keys: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def subject_keys(self) -> tuple[bytes, ...]:
        """All keys that leaves about this person are under; the present one first."""
        return (self.subject_key, *self.former_keys)

    def local_id(self, kinds: Iterable[str]) -> tuple[str, str] | None:
        """The first of its local ids that is of one of these types."""
        wanted = tuple(kinds)
        return next(((t, v) for t, v in self.user_ids if t in wanted), None)


class Reader(Protocol):
    """Where the encrypted records are."""

    def get(self, key: bytes) -> bytes | None:
        """The record's bytes, or None."""


class SchoolKeys:
    """The keys of schools, each derived from one master: whoever has only this opens no vault record.

    Args:
        master: the secret `school-keys`. Of several versions the oldest is sealed with, until `use` says otherwise.
    """

    def __init__(self, master: Secret) -> None:
        self._masters = _by_number(master)
        self._master_in_use = min(self._masters)
        self._schools: dict[tuple[int, str], AESGCM] = {}

    def school_cipher(self, school: str) -> AESGCM:
        """Under which this school's subject keys and index entries are sealed; opens nothing of another school."""
        return self._school(self._master_in_use, school)

    def school_ciphers(self, school: str) -> tuple[AESGCM, ...]:
        """All under which something of this school may be sealed; first the one that is sealed with now."""
        return tuple(self._school(number, school) for number in _first(self._master_in_use, self._masters))

    def _school(self, number: int, school: str) -> AESGCM:
        cipher = self._schools.get((number, school))
        if cipher is None:
            key = hmac.digest(self._masters[number], b"school/" + school.encode(), "sha256")
            cipher = self._schools[number, school] = AESGCM(key)
        return cipher


class VaultCipher(SchoolKeys):
    """Keyed hashes and encryption of vault records.

    Args:
        mac_key: 32 bytes; has no versions (docs/adr/0019).
        record_key, school_master: a secret, or its versions. The subject key inside a record is wrapped once more
            under a key of its school, derived from `school_master`, so that an auditor of one school can be given
            that one.
    """

    def __init__(self, mac_key: bytes, record_key: Secret, school_master: Secret, *, remembered: int = 50_000) -> None:
        super().__init__(school_master)
        self._hash = KeyedHash(mac_key)
        self._records = _ciphers(record_key)
        self._record_in_use = min(self._records)
        self._cache: OrderedDict[bytes, tuple[bytes, VaultRecord]] = OrderedDict()
        self._remembered = remembered

    def renew(self, record_key: Secret, school_master: Secret) -> None:
        """Take other versions over, all at once; what is sealed with stays if it is still there."""
        self._masters, self._records = _by_number(school_master), _ciphers(record_key)
        self._schools.clear()
        if self._master_in_use not in self._masters:
            self._master_in_use = min(self._masters)
        if self._record_in_use not in self._records:
            self._record_in_use = min(self._records)

    def use(self, record_number: int, master_number: int) -> None:
        """Seal with these versions from now on.

        Raises:
            TransientError: `keys.behind`, naming the secret, if one of them is not here; nothing was changed.
        """
        for name, number, known in ((RECORDS, record_number, self._records), (SCHOOLS, master_number, self._masters)):
            if number not in known:
                raise TransientError(
                    f"Version {number} of the secret {name} is in use and is not in this process's key store. Give it "
                    "the newest keys; it goes on by itself once they are there.",
                    code="keys.behind",
                )
        self._record_in_use, self._master_in_use = record_number, master_number

    def key(self, sector: str, school: str, id_type: str, value: str) -> bytes:
        """Where an id stands: HMAC-SHA256 over (sector, school, type, value)."""
        return self._hash(sector, school, id_type, value)

    def keys(self, record: VaultRecord) -> list[bytes]:
        """Under which keys a record stands."""
        ids = [*record.user_ids, *([(ECK_ID, record.eck_id)] if record.eck_id else [])]
        return [self.key(record.sector, record.school, id_type, value) for id_type, value in ids]

    def find(self, reader: Reader, key: bytes) -> VaultRecord | None:
        """Look an id up."""
        raw = reader.get(key)
        if raw is None:
            self.evict([key])
            return None
        cached = self._cache.get(key)
        if cached is not None and cached[0] == raw:
            return cached[1]
        record = self.decrypt(key, raw)
        self._cache[key] = (raw, record)
        if len(self._cache) > self._remembered:
            self._cache.popitem(last=False)
        return record

    def evict(self, keys: Iterable[bytes] | None) -> None:
        """Forget what was opened before: of who was erased nothing may stay in memory.

        Args:
            keys: of the vault; None: all.
        """
        if keys is None:
            self._cache.clear()
            return
        for key in keys:
            self._cache.pop(key, None)

    def encrypt(self, key: bytes, record: VaultRecord) -> bytes:
        """The record's bytes under one of its keys; the key is bound in, so records can not be swapped."""
        school, associated = self.school_cipher(record.school), record.school.encode()
        datum = {
            "school": record.school,
            "sector": record.sector,
            "kind": record.kind,
            "eck_id": record.eck_id,
            "user_ids": [{"type": t, "value": v} for t, v in record.user_ids],
            "left_on": record.left_on,
            "subject_key": seal(school, record.subject_key, associated),
            "school_account": record.flags.school_account,
            "parents_informed": record.flags.parents_informed,
            "objection": record.flags.objection,
            "under_16": record.flags.under_16,
            "consents": [{"product_id": p, "reference": r} for p, r in record.flags.consents],
            "former_keys": [seal(school, former, associated) for former in record.former_keys],
        }
        encoded = catalogue()["vault.v1"].encode(datum)
        cipher = self._records[self._record_in_use]
        return seal(cipher, encoded if record.former_keys else encoded.removesuffix(_NO_FORMER_KEYS), key)

    def decrypt(self, key: bytes, raw: bytes) -> VaultRecord:
        """Open a record, under whatever versions it was written.

        Raises:
            ConfigError: `vault.key`: the vault was written under other keys.
        """
        return self._open(key, raw)[0]

    def is_older(self, key: bytes, raw: bytes) -> bool:
        """Whether a record, or anything in it, is under another version than those in use.

        Raises:
            ConfigError: as `decrypt`.
        """
        return not self._open(key, raw)[1]

    def renewed(self, key: bytes, raw: bytes) -> bytes:
        """The same content under the versions in use.

        Raises:
            ConfigError: as `decrypt`.
        """
        return self.encrypt(key, self.decrypt(key, raw))

    def _open(self, key: bytes, raw: bytes) -> tuple[VaultRecord, bool]:
        """A record, and whether it is under the versions in use, with all that is in it."""
        ciphers = [self._records[number] for number in _first(self._record_in_use, self._records)]
        encoded, version = _decrypt(ciphers, raw, key)
        datum = _read(encoded)
        school = datum["school"]
        opened = [
            _decrypt(self.school_ciphers(school), wrapped, school.encode())
            for wrapped in (datum["subject_key"], *datum["former_keys"])
        ]
        subject_key, *former_keys = (found for found, _ in opened)
        ids = tuple((i["type"], i["value"]) for i in datum["user_ids"])
        flags = Flags(
            datum["school_account"], datum["parents_informed"], datum["objection"], datum["under_16"],
            tuple((c["product_id"], c["reference"]) for c in datum["consents"]),
        )  # fmt: skip
        record = VaultRecord(
            school, datum["sector"], datum["kind"], datum["eck_id"], ids, datum["left_on"], subject_key, flags,
            tuple(former_keys),
        )  # fmt: skip
        return record, not any((version, *(number for _, number in opened)))


def _by_number(secret: Secret) -> Mapping[int, bytes]:
    return {1: secret} if isinstance(secret, bytes) else dict(secret)


def _ciphers(secret: Secret) -> dict[int, AESGCM]:
    return {number: AESGCM(key) for number, key in _by_number(secret).items()}


def _first(number: int, known: Iterable[int]) -> list[int]:
    """All numbers: this one, then the others from the newest on."""
    return [number, *sorted((other for other in known if other != number), reverse=True)]


def _decrypt(ciphers: Sequence[AESGCM], sealed: bytes, associated: bytes) -> tuple[bytes, int]:
    """What is sealed under one of these, and under which.

    Raises:
        ConfigError: `vault.key`.
    """
    for place, cipher in enumerate(ciphers):
        try:
            return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], associated), place
        except InvalidTag:
            continue
    raise ConfigError(
        "a vault record does not open: the keys given are not those it was written with", code="vault.key"
    )


def _read(encoded: bytes) -> JsonObject:
    """Read a record. Most end before the last field: of who was never merged, and so all that were written before."""
    schema = catalogue()["vault.v1"]
    try:
        return schema.decode(encoded + _NO_FORMER_KEYS)
    except ContractError as error:
        if error.code != "schema.trailing":
            raise
    return schema.decode(encoded)


def new_subject_key() -> bytes:
    """Ks: random, so that destroying the record destroys the only way to its tokens."""
    return os.urandom(SUBJECT_KEY_BYTES)
