"""The keys that senders seal for, on `broker.keys`: each change of them in one transaction with its audit.

The leaf on `audit.control` is of kind `broker-keys`. It names what came, what went, and all that stands there since,
each by its id and thumbprint (RFC 7638): so the last such leaf is enough to know a key that was put there past our
commands.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from broker.audit.leaf import control_leaf
from broker.client.published import read_compacted
from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.kafka.publish import BROKER_KEYS, key_document
from broker.keys import KID, RecipientKey
from broker.registry.store import AUDIT_CONTROL, MAX_LEAF_BYTES, Clock, changing, now_ms, require_why, see_committed

KIND: Final = "broker-keys"
_MEMBERS: Final = ("crv", "kty", "x", "y")  # RFC 7638, section 3.2: those of an EC key, in this order

Records = Mapping[str, bytes]


class Published(NamedTuple):
    """Ids of the keys that came and went."""

    came: tuple[str, ...]
    gone: tuple[str, ...]


async def publish(
    connection: KafkaConnection,
    keys: Sequence[RecipientKey],
    operator: str,
    reason: str,
    *,
    alone: bool = False,
    clock: Clock = now_ms,
) -> Published:
    """Put public keys of the broker on `broker.keys`; senders take the newest.

    Args:
        operator: who does it. reason: why; both stand in the audit for ever.
        alone: all others are taken back; and the audit is told what stands there also when nothing changes.

    Raises:
        ConfigError: `keys.why`, `topic.missing`, `kafka.*`; nothing was written.
        TransientError: `registry.busy`, `registry.unavailable`: nothing was written. `registry.unseen`.
    """
    these = {key.kid: key_document(key) for key in keys}

    def desired(current: Records) -> Records:
        return these if alone else {**current, **these}

    return await _change(connection, desired, operator, reason, clock, told=alone)


async def take_back(
    connection: KafkaConnection, kids: Iterable[str], operator: str, reason: str, *, clock: Clock = now_ms
) -> Published:
    """Remove keys: what is sealed for them, the broker does not open any more. Else as `publish`."""
    these = frozenset(kids)

    def desired(current: Records) -> Records:
        return {kid: value for kid, value in current.items() if kid not in these}

    return await _change(connection, desired, operator, reason, clock, told=False)


def thumbprint(value: bytes) -> str:
    """The thumbprint of a record's key (RFC 7638, SHA-256, base64url); `unreadable` if there is no key in it."""
    found: list[str] = []
    try:
        jwk = json.loads(value)["jwk"]
        found = [str(jwk[name]) for name in _MEMBERS]
    except (ValueError, LookupError, TypeError, RecursionError):
        return "unreadable"
    text = json.dumps(dict(zip(_MEMBERS, found, strict=True)), separators=(",", ":"))
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def differing(published: Records, leaves: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Ids of keys that stand on `broker.keys` and not in the last leaf about them, or the other way round.

    Args:
        published: what stands on `broker.keys`. leaves: of `audit.control`, in order.
    """
    controls = (leaf.get("control") for leaf in leaves)
    stand: list[Any] = []
    for control in controls:
        if isinstance(control, dict) and control.get("kind") == KIND:
            stand = control["stand"]
    named = {(one["kid"], one["thumbprint"]) for one in stand}
    there = {(one["kid"], one["thumbprint"]) for one in _named(published)}
    return tuple(sorted({kid for kid, _ in named ^ there}))


async def _change(
    connection: KafkaConnection,
    desired_of: Callable[[Records], Records],
    operator: str,
    reason: str,
    clock: Clock,
    *,
    told: bool,
) -> Published:
    require_why(operator, reason, "a publication of keys", code="keys.why")
    async with changing(connection, (BROKER_KEYS, AUDIT_CONTROL)) as producer:
        current = await read_compacted(connection, BROKER_KEYS)
        desired = desired_of(current)
        came = {kid: value for kid, value in desired.items() if current.get(kid) != value}
        gone = {kid: value for kid, value in current.items() if desired.get(kid) != value}
        if not (came or gone or told):
            return Published((), ())
        leaf = control_leaf(
            KIND,
            {
                "came": _named(came), "gone": _named(gone), "stand": _named(desired),
                "operator": operator, "reason": reason, "at": clock(),
            },
        )  # fmt: skip
        if len(leaf) > MAX_LEAF_BYTES:
            raise ConfigError(
                f"There are too many keys on {BROKER_KEYS} for one leaf of the audit. Destroy older ones, with "
                "`broker keys destroy`; nothing was written.",
                code="keys.too_many",
            )
        written = []
        async with producer.transaction():
            for kid in sorted({*came, *gone}):
                value = desired.get(kid)
                written.append(await producer.send(BROKER_KEYS, value, key=kid.encode(), partition=0))
            await producer.send(AUDIT_CONTROL, leaf, partition=0)
        if written:
            await see_committed(connection, producer, (await written[-1]).offset, BROKER_KEYS)
    return Published(tuple(sorted(came)), tuple(sorted(gone.keys() - desired.keys())))


def _named(records: Records) -> list[dict[str, str]]:
    """For a leaf: what is no id of a key may be anything, and does not get into the audit."""
    return [
        {
            "kid": kid if KID.fullmatch(kid) else f"sha256:{sha256(kid.encode()).hexdigest()}",
            "thumbprint": thumbprint(value),
        }
        for kid, value in sorted(records.items())
    ]
