"""What an entry of the registry said at a version that a leaf of the audit names (`x.registry`).

A version is a hash over all entries (`broker.registry.version`), and no leaf says which change made it. But each leaf
of kind `registry` on `audit.control` has a whole change, so who takes them in their order gets every version again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.errors import ConfigError
from broker.policy.document import canonical
from broker.registry.version import VersionTree


def entry_at(leaves: Iterable[Mapping[str, Any]], version: str, key: str) -> Mapping[str, Any]:
    """The change that made an entry what it was at a version: its member `after` is the entry.

    Args:
        leaves: of `audit.control` from its beginning, in their order; those of other kinds are passed over.
        version: `sha256:<hex>`. key: such as `board/bestuur-horizon`.

    Returns:
        The content of the leaf: key, action, before, after, operator, reason, at. If the registry had this version more
        than once, the change before the first time.

    Raises:
        ConfigError: `registry.version`, if the leaves do not lead to it; `registry.entry`, if it had no such entry.
    """
    tree = VersionTree()
    found: Mapping[str, Any] | None = None
    for leaf in leaves:
        change: Mapping[str, Any] = leaf.get("control", {})
        if change.get("kind") != "registry":
            continue
        after = change["after"]
        tree = tree.with_changes({change["key"]: None if after is None else canonical(after)})
        found = change if change["key"] == key else found
        if tree.version == version:
            if found is None or found["after"] is None:
                raise ConfigError(f"The registry of this version has no entry {key}.", code="registry.entry")
            return found
    raise ConfigError(
        "The changes on audit.control do not lead to this version. Look whether they reach back to the first one: the "
        "topic keeps them for two years. Two changes of one moment may stand there in another order than on the topic "
        "registry; then the version between them is not found, and the time of the line says what held.",
        code="registry.version",
    )
