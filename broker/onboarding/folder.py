"""A new party in the registry's folder: its entry and its sandbox, as files of their own.

What the folder has already stays as it is, in whatever file it stands, so that this can be done again at will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from broker.errors import ConfigError
from broker.onboarding.sandbox import (
    COUNTERPART,
    Sandbox,
    counterpart_entries,
    files_of,
    free_school,
    sandbox_entries,
    sandbox_of,
)
from broker.policy import Policy, Routes
from broker.registry import Party, PublicKey, Registry, load, load_document

_HEAD = "# Made by `broker party add`. Yours to edit; remove it to have it made anew.\n"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What the operator says of a new party.

    Args:
        roles: empty for a party that the folder has already.
        covenant, attested_on: as in its entry; without them it gets no ECK iD but a pseudonym of its own.
        processor_url: None: an address that leads nowhere, to be put right.
    """

    party: str
    roles: tuple[str, ...] = ()
    name: str | None = None
    covenant: str = "geen"
    attested_on: date | None = None
    processor_url: str | None = None

    def entry(self, keys: Sequence[PublicKey]) -> dict[str, Any]:
        """As a file of the registry has it."""
        attested = {} if self.attested_on is None else {"eck_id_attested_on": self.attested_on}
        return {
            "id": self.party, "name": self.name or self.party, "roles": list(self.roles), "covenant": self.covenant,
            **attested, "keys": [key.model_dump(mode="json") for key in keys],
            "processor_url": self.processor_url or f"https://{self.party}.invalid/",
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Added:
    """The folder after the party was added.

    Attributes:
        registry: all that is in it. party: its entry there. sandbox: of the party.
        written: files that were made; none the second time.
    """

    registry: Registry
    party: Party
    sandbox: Sandbox
    written: tuple[Path, ...]


def add_to_folder(
    folder: Path, newcomer: Newcomer, keys: Sequence[PublicKey], counterpart_keys: Sequence[PublicKey], today: date
) -> Added:
    """Put a party, its sandbox and the counterpart into a folder of the registry, as far as they are not there.

    Raises:
        ConfigError: `party.roles`, or `registry.invalid` if the folder would not be right; nothing was written.
    """
    before = load(folder) if any(folder.glob("*.yaml")) else Registry()
    known = before.party(newcomer.party)
    roles = known.roles if known is not None else newcomer.roles
    if not roles:
        raise ConfigError(
            f"{folder} has no party {newcomer.party} yet, so say what it is: --roles SIS, SHOP, PUBLISHER, PORTAL or "
            "several, with commas.",
            code="party.roles",
        )
    if newcomer.roles and set(newcomer.roles) != set(roles):
        raise ConfigError(
            f"{folder} says that {newcomer.party} has the roles {', '.join(roles)}. Change them there (and remove "
            f"zandbak-{newcomer.party}.yaml, to have its sandbox made anew), then leave --roles out.",
            code="party.roles",
        )
    files: dict[str, dict[str, Any]] = {}
    own, school = files_of(newcomer.party)
    if known is None:
        files[own] = {"parties": [newcomer.entry(keys)]}
    if before.party(COUNTERPART) is None:
        files[f"{COUNTERPART}.yaml"] = counterpart_entries(counterpart_keys)
    if sandbox_of(before, newcomer.party) is None:
        sandbox = Sandbox(newcomer.party, free_school(before.schools.values()), tuple(roles))
        entries = sandbox_entries(sandbox, today, Policy.load(), Routes.load())
        files[school] = entries
    written = _write(folder, files)
    after = load(folder) if written else before
    party, found = after.party(newcomer.party), sandbox_of(after, newcomer.party)
    if party is None or found is None:  # what was written is what is looked for
        raise ConfigError(f"{folder} has no sandbox for {newcomer.party}.", code="sandbox.missing")
    return Added(after, party, found, written)


def put_keys(folder: Path, party: str, keys: Sequence[PublicKey]) -> bool:
    """Put a party's keys of now into its file of the folder, if that has any: else the next `apply` undoes a rotation.

    Returns:
        Whether the folder is right: False, if its keys stand in a file that somebody wrote himself.
    """
    path = folder / files_of(party)[0]
    if path.exists():
        content = yaml.safe_load(path.read_text("utf-8"))
        entries = content.get("parties", []) if isinstance(content, dict) else []
        if [entry.get("id") for entry in entries] == [party]:
            if entries[0].get("keys"):
                entries[0]["keys"] = [key.model_dump(mode="json") for key in keys]
                path.write_text(_text(content), "utf-8")
            return True
    found = load(folder).party(party)
    return found is None or not found.keys


def remove_files(folder: Path, party: str) -> tuple[Path, ...]:
    """Take away the files that a party has for itself."""
    there = tuple(folder / name for name in files_of(party) if (folder / name).exists())
    _remove(list(there))
    return there


def _write(folder: Path, files: dict[str, dict[str, Any]]) -> tuple[Path, ...]:
    """Write files that are not there yet; take them away again if the folder is not right with them."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    try:
        for name, content in files.items():
            with (folder / name).open("x", encoding="utf-8") as out:
                written.append(folder / name)
                out.write(_text(content))
        load_document(folder)
    except FileExistsError as error:
        _remove(written)
        raise ConfigError(
            f"{error.filename} is there, but not what it is named after. Look at it, and remove or rename it.",
            code="registry.file",
        ) from error
    except BaseException:
        _remove(written)
        raise
    return tuple(written)


def _text(content: dict[str, Any]) -> str:
    return _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _remove(written: list[Path]) -> None:
    for path in written:
        path.unlink()
