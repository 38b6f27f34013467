"""Replace what a party proves itself with: its password, and the key that is sealed for.

Key first, in the profile and then in the registry, with the one before it beside it; then the password. Killed before
the registry has the key, it goes on with the key that it made; killed after that, it makes one more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

from broker.app.provision import new_login
from broker.app.suspension import Tell, require_not_suspended, take_back_from_suspended
from broker.client.profile import CONNECTION_FILE, KEYS_FOLDER
from broker.errors import ConfigError
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys, RecipientKey
from broker.registry import Party, PublicKey
from broker.registry.registry import parse_record, record_of
from broker.registry.store import read_records, revise


def rotate(admin: Admin, party: str, operator: str, reason: str, folder: Path, tell: Tell) -> KafkaConnection:
    """Give a party a newer key and a new password, in its profile. Tells each step once it is done.

    Args:
        folder: the profile. Its keys stay: what was sealed for them is still to be read.

    Raises:
        ConfigError: `party.unknown`, `party.suspended`, `profile.missing`, or as `broker.registry.store.change`.
        TransientError: repeat it.
    """
    require_not_suspended(admin, party)
    known, keys = _party(admin, party), _keys(folder, party)
    newest = _unpublished(keys, party, {key.kid for key in known.keys})
    if newest is None:
        newest = keys.create(party)
        tell(f"key: made {newest.kid} in {folder / KEYS_FOLDER}; the older ones stay there")
    else:
        tell(f"key: {newest.kid} was made already, and not in the registry yet")
    _set_keys(admin, party, operator, reason, newest, kept=1)
    tell(f"registry: what goes to {party} is sealed for {newest.kid} from now on; the one before it stays beside it")
    connection = new_login(admin, admin.connection, party, folder / CONNECTION_FILE)
    take_back_from_suspended(admin, party)
    tell(f"login: {party} has a new password, in {folder / CONNECTION_FILE}; the old one is worth nothing")
    return connection


def finish(admin: Admin, party: str, operator: str, reason: str, folder: Path, tell: Tell) -> None:
    """End a rotation: the registry and the profile keep the newest key alone.

    Raises:
        ConfigError: `party.unfinished`, if the registry does not have the newest key of the profile; or as `rotate`.
    """
    known, keys = _party(admin, party), _keys(folder, party)
    newest, *older = keys.recipient_keys(party)
    if not known.keys or known.keys[0].kid != newest.kid:
        raise ConfigError(
            f"The registry does not have the newest key of {folder} as the one that is sealed for; nothing was done. "
            f"Run `broker party rotate {party}` first.",
            code="party.unfinished",
        )
    _set_keys(admin, party, operator, reason, newest, kept=0)
    tell(f"registry: {newest.kid} is the only key of {party}")
    for key in older:
        keys.destroy(key.kid)
        tell(f"key: destroyed {key.kid} in {folder / KEYS_FOLDER}; the party destroys its own copy")


def _unpublished(keys: FileKeys, party: str, listed: Collection[str]) -> RecipientKey | None:
    """The key that a rotation made which was killed then: newer than one that the registry has, and not there.

    Where the registry has keys and none of the profile's, the party made them itself; what the profile has is older.

    Args:
        listed: ids of the keys in the registry.
    """
    newest, *older = keys.recipient_keys(party)
    if newest.kid in listed or (listed and not any(key.kid in listed for key in older)):
        return None
    return newest


def _party(admin: Admin, party: str) -> Party:
    record = asyncio.run(read_records(admin.connection)).get(f"party/{party}")
    found = None if record is None else parse_record(f"party/{party}", record)
    if not isinstance(found, Party):
        raise ConfigError(
            f"The registry knows no party {party}; `broker registry list --kind party` shows them.",
            code="party.unknown",
        )
    return found


def _keys(folder: Path, party: str) -> FileKeys:
    keys = FileKeys(folder / KEYS_FOLDER)
    if not keys.recipient_keys(party):
        raise ConfigError(
            f"{folder} has no key of {party}: it is not its profile. Give the folder of profiles with --profiles.",
            code="profile.missing",
        )
    return keys


def _set_keys(admin: Admin, party: str, operator: str, reason: str, newest: RecipientKey, *, kept: int) -> None:
    """Put a key first in the registry, with so many of those that were there before it."""

    def changes(current: Mapping[str, bytes]) -> dict[str, bytes | None]:
        entry = parse_record(f"party/{party}", current[f"party/{party}"])
        if not isinstance(entry, Party):
            return {}
        older = [key for key in entry.keys if key.kid != newest.kid][:kept]
        first = PublicKey(kid=newest.kid, jwk=dict(newest.jwk))
        return {f"party/{party}": record_of(entry.model_copy(update={"keys": (first, *older)}))}

    asyncio.run(revise(admin.connection, changes, operator, reason))
