"""A party leaves: the registry first, then rights and login. Its topics stay until somebody deletes them by hand."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from broker.app.suspension import Tell
from broker.errors import ConfigError
from broker.kafka.access import party_acls
from broker.kafka.admin import Admin
from broker.kafka.rights import remove_quotas
from broker.registry.store import read_records, revise
from broker.registry.suspension import suspension_key

SHOWN: Final = 10
_NAMED_IN: Final = {"agreement": ("party",), "exception": ("receiver",), "school": ("sis",)}


def remove(admin: Admin, party: str, operator: str, reason: str, sandbox_board: str | None, tell: Tell) -> None:
    """Take a party out of the registry with its connections and its sandbox, then its rights, login and quota.

    An agreement with it, or a school whose SIS it is, must be out of the registry before: a board's word is not this
    command's to end, and the end of an agreement asks the party to destroy what it got.

    Args:
        sandbox_board: the board of schools that go with the party; None: no school does.

    Raises:
        ConfigError: `party.in_use`, naming what refers to it; `party.unknown`; or as `broker.registry.store.change`.
        TransientError: repeat it.
    """
    party_acls(party)  # no service of the broker is removed by this
    records = asyncio.run(read_records(admin.connection))
    if not records.keys().isdisjoint({f"party/{party}", suspension_key(party)}):
        done = asyncio.run(revise(admin.connection, lambda now: _removal(now, party, sandbox_board), operator, reason))
        tell(f"registry: {party} is out of it, with its connections and its sandbox ({len(done)} records), audited")
    elif party not in admin.users():
        raise ConfigError(
            f"Neither the registry nor Kafka knows a party {party}; `broker registry list --kind party` shows them.",
            code="party.unknown",
        )
    admin.remove_user(party)
    tell(f"rights and login: {party} has none any more")
    remove_quotas(admin, party)
    tell(f"quota: {party} has none of its own any more")
    tell(
        f"topics: in.{party}, status.{party}, quarantine.{party} and out.{party}.* stay, with what is on them. No "
        "command of the broker deletes a topic; do it by hand once nobody needs them."
    )


def _removal(current: Mapping[str, bytes], party: str, sandbox_board: str | None) -> dict[str, bytes | None]:
    """The records that go with a party.

    Raises:
        ConfigError: `party.in_use`.
    """
    entries: dict[str, dict[str, Any]] = {key: json.loads(value) for key, value in current.items()}
    sandbox = _sandbox(entries, party, sandbox_board)
    gone, left = {f"party/{party}", suspension_key(party)} & current.keys() | sandbox, []
    for key, entry in entries.items():
        kind = key.partition("/")[0]
        if kind == "connection" and party in (entry["sender"], entry["receiver"]):
            gone.add(key)
        elif key not in gone and party in (entry.get(name) for name in _NAMED_IN.get(kind, ())):
            left.append(key)
    if left:
        more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
        raise ConfigError(
            f"{party} is still named by {', '.join(sorted(left)[:SHOWN])}{more}. Nothing was done. End them in the "
            "registry's folder and apply it: the end of an agreement asks the party to destroy what it got. Once it "
            "has confirmed, take them and the party out of the folder, and run this again.",
            code="party.in_use",
        )
    return dict.fromkeys(gone)


def _sandbox(entries: Mapping[str, Mapping[str, Any]], party: str, board: str | None) -> set[str]:
    """Keys of the schools that a party has to do with in the sandbox, and of all agreements about these."""
    agreements = {key: e for key, e in entries.items() if key.startswith("agreement/") and e["board"] == board}
    # An agreement for all of a board names no school, so no school goes with it.
    about: dict[str, set[str]] = defaultdict(set)
    for key, agreement in agreements.items():
        for school in agreement["schools"] if isinstance(agreement["schools"], list) else ():
            about[school].add(key)
    gone: set[str] = set()
    for school, keys in about.items():
        parties = {agreements[key]["party"] for key in keys}
        if party in parties and len(parties) <= 2:  # with its counterpart; where a third one is, that is its loss too
            gone |= keys | {f"school/{school}"} & entries.keys()
    return gone
