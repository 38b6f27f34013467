"""Which key of the broker is written with, and which older ones are still needed: the record `key/<name>`.

A registry record, since every worker follows the registry and decides again when it changes: who does not know a
version that is in use stands still within the bound of promise P7, instead of writing under another one. Files do not
have these; `broker keys rotate` writes them, and each is a leaf of `audit.control`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from broker.policy.document import Written

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,83}$")]


class KeyInUse(Written):
    """A key, or a secret, that is replaced now and then.

    Args:
        id: name of the secret, or `broker` for the key that senders seal for.
        version: what is written with: the secret of this name, or the key of this id.
        older: what may still be needed to read; none once a rotation has ended.
        since: when the version came into use.
    """

    id: Name
    version: Name
    older: tuple[Name, ...] = ()
    since: AwareDatetime
