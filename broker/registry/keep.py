"""What a folder of files does not take away: keys, what was said about connections, successions and suspensions.

Files say who a party is and what was agreed. Keys come and go with `broker party` and `broker keys`, connections are
switched by events of the schools' own systems, boards and BRINs are succeeded and parties suspended by a command. A
folder that does not know of these must not undo them. (The check then refuses a folder in which a predecessor is still
there.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from broker.registry.models import ConnectionSide, Party, School
from broker.registry.registry import parse_record, record_of
from broker.registry.suspension import KIND as SUSPENSION

Unnamed = Literal["keep", "remove"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys of connection sides that stand otherwise than a folder has them.

    Attributes:
        unnamed: the folder does not have them. newer: it has an older word of that side.
    """

    unnamed: tuple[str, ...]
    newer: tuple[str, ...]


def keep(
    desired: Mapping[str, bytes], current: Mapping[str, bytes], unnamed_connections: Unnamed = "keep"
) -> dict[str, bytes]:
    """The records of a folder, with what they may not take away from those that stand in the registry now."""
    stays = {k: value for k, value in current.items() if k.startswith(("succession/", "key/", f"{SUSPENSION}/"))}
    return {**stays, **keep_connections(keep_keys(desired, current), current, unnamed_connections)}


def keep_keys(desired: Mapping[str, bytes], current: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give parties that are desired without public keys the ones that they have now."""
    kept = dict(desired)
    for key in desired.keys() & current.keys():
        if key.startswith("party/"):
            party, now = parse_record(key, desired[key]), parse_record(key, current[key])
            if isinstance(party, Party) and isinstance(now, Party) and not party.keys and now.keys:
                kept[key] = record_of(party.model_copy(update={"keys": now.keys}))
    return kept


def keep_connections(
    desired: Mapping[str, bytes], current: Mapping[str, bytes], unnamed: Unnamed = "keep"
) -> dict[str, bytes]:
    """Keep sides of connections that are not desired, and those that came into their state later than desired.

    A side whose school, location or parties are not desired any more goes with them. Of a side that was revoked and is
    desired as offered or declined, it is kept how it ended: files seldom tell, and its closing term must not end.

    Args:
        unnamed: `remove`: those that are not desired go. A newer word stays in any case: whoever wants to undo it says
            so with a later time.
    """
    kept = dict(desired)
    for key, side in _sides(current):
        if key in desired:
            wanted = parse_record(key, desired[key])
            if isinstance(wanted, ConnectionSide):
                kept[key] = current[key] if wanted.at < side.at else _with_ending(desired[key], wanted, side)
        elif unnamed == "keep" and _has_ground(side, desired):
            kept[key] = current[key]
    return kept


def kept_connections(desired: Mapping[str, bytes], records: Mapping[str, bytes]) -> Kept:
    """Which sides of connections stand in these records otherwise than desired."""
    found = sorted(key for key in records if key.startswith("connection/") and records[key] != desired.get(key))
    named = dict(_sides({key: desired[key] for key in found if key in desired}))
    newer = (key for key, side in _sides({key: records[key] for key in named}) if named[key].at < side.at)
    return Kept(tuple(key for key in found if key not in desired), tuple(newer))


def _sides(records: Mapping[str, bytes]) -> Iterator[tuple[str, ConnectionSide]]:
    for key, value in records.items():
        if key.startswith("connection/"):
            side = parse_record(key, value)
            if isinstance(side, ConnectionSide):
                yield key, side


def _with_ending(record: bytes, wanted: ConnectionSide, side: ConnectionSide) -> bytes:
    """The desired record, with how the side ended if it leaves that out."""
    ending = side.ending()
    if ending is None or wanted.state == "revoked" or wanted.ended or wanted.about() != side.about():
        return record
    return record_of(wanted.model_copy(update={"ended": ending}))


def _has_ground(side: ConnectionSide, desired: Mapping[str, bytes]) -> bool:
    school_key = f"school/{side.school}"
    if not {school_key, f"party/{side.sender}", f"party/{side.receiver}"} <= desired.keys():
        return False
    school = parse_record(school_key, desired[school_key])
    return side.location is None or (isinstance(school, School) and side.location in school.locations)
