"""A folder of YAML files, and the checks between entries that stand before every change of the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, ValidationError

from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.policy.document import Written, problems_of, read_yaml, refuse
from broker.policy.words import Process
from broker.registry.checks import problems_between
from broker.registry.connections import Ended, Products, Service, Side, State
from broker.registry.models import (
    Agreement,
    Board,
    ConnectionSide,
    Entry,
    EntryId,
    LocationId,
    Party,
    PartyId,
    PublicKey,
    RegistryDocument,
    School,
    SchoolId,
    Succession,
    TemporaryException,
    key_of,
)
from broker.registry.registry import POLICY_KEY, ROUTES_KEY, Registry, parse_record, record_of


class _Side(Written):
    state: State
    accepted_by: PartyId | None = None
    mandate: PartyId | None = None
    at: AwareDatetime
    ended: Ended | None = None


class _Connection(Written):
    """Both sides of a connection, as they stand in a file."""

    id: EntryId
    school: SchoolId
    location: LocationId | None = None
    sender: PartyId
    receiver: PartyId
    service: Service
    process: Process
    products: Products = "all"
    sides: Annotated[Mapping[Side, _Side], Field(min_length=1)]

    def records(self) -> Iterator[ConnectionSide]:
        shared = self.model_dump(exclude={"sides"})
        for side, said in self.sides.items():
            yield ConnectionSide.model_validate({**shared, "side": side, **said.model_dump()})


_SECTIONS: Final[Mapping[str, type[Entry | _Connection]]] = {
    "parties": Party,
    "boards": Board,
    "schools": School,
    "agreements": Agreement,
    "exceptions": TemporaryException,
    "connections": _Connection,
    "successions": Succession,
}


def load_document(folder: Path, policy: Policy | None = None, routes: Routes | None = None) -> RegistryDocument:
    """Read all `*.yaml` files of a folder and hold them against each other.

    Args:
        policy, routes: by default the ones that come with the package.

    Raises:
        ConfigError: `registry.invalid`, listing all problems with file and field.
    """
    entries: list[Entry] = []
    where: dict[str, str] = {}
    problems: list[str] = []
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder} has no *.yaml file. Give the folder of the registry.", code="config.file")
    for path in paths:
        for entry, place in _read(path, problems):
            entries.append(entry)
            if key_of(entry) in where:
                problems.append(f"{place}: {key_of(entry)} is also in {where[key_of(entry)]}")
            where.setdefault(key_of(entry), place)
    if not problems:
        problems += problems_between(entries, policy or Policy.load(), routes or Routes.load(), where)
    if problems:
        raise refuse(f"registry in {folder}", problems, "registry.invalid")
    return _document(entries)


def load_succession(path: Path) -> Succession:
    """Read the one succession of a YAML file, written as in the registry's folder: a list under `successions`.

    Raises:
        ConfigError: `registry.invalid`, or `config.file`.
    """
    problems: list[str] = []
    entries = [entry for entry, _ in _read(path, problems)]
    if problems:
        raise refuse(str(path), problems, "registry.invalid")
    if len(entries) != 1 or not isinstance(entries[0], Succession):
        raise refuse(str(path), ["must have one entry under successions, and nothing else"], "registry.invalid")
    return entries[0]


def load(folder: Path, policy: Policy | None = None, routes: Routes | None = None) -> Registry:
    """The registry of a folder of YAML files, as it would be once applied.

    Raises:
        ConfigError: as `load_document`.
    """
    policy, routes = policy or Policy.load(), routes or Routes.load()
    return Registry.from_records(records_of(load_document(folder, policy, routes), policy, routes))


def records_of(
    document: RegistryDocument, policy: Policy | None = None, routes: Routes | None = None
) -> dict[str, bytes]:
    """All records of the topic `registry`, policy and routes with them.

    Args:
        policy, routes: by default the ones that come with the package.
    """
    records = {key_of(entry): record_of(entry) for entry in document.entries()}
    records[POLICY_KEY] = (policy or Policy.load()).record()
    records[ROUTES_KEY] = (routes or Routes.load()).record()
    return records


def with_keys(document: RegistryDocument, keys: Mapping[str, Sequence[PublicKey]]) -> RegistryDocument:
    """The document with public keys filled in; a party that is not named keeps its own.

    Raises:
        ConfigError: `registry.party`, if a name is no party of the document.
    """
    unknown = keys.keys() - {party.id for party in document.parties}
    if unknown:
        raise ConfigError(f"no such party in the document: {', '.join(sorted(unknown))}", code="registry.party")
    parties = (_with(party, keys[party.id]) if party.id in keys else party for party in document.parties)
    return document.model_copy(update={"parties": tuple(parties)})


def _with(party: Party, keys: Sequence[PublicKey]) -> Party:
    fields = {name: getattr(party, name) for name in Party.model_fields}
    return Party.model_validate({**fields, "keys": tuple(keys)})


def check(records: Mapping[str, bytes]) -> None:
    """Hold all records of a registry against each other.

    Raises:
        ConfigError: `registry.invalid`, listing all problems; or as `Registry.from_records`.
    """
    contents = {key: parse_record(key, value) for key, value in records.items()}
    policy, routes = contents.get(POLICY_KEY), contents.get(ROUTES_KEY)
    problems = [f"{key}: is missing" for key in (POLICY_KEY, ROUTES_KEY) if key not in contents]
    if isinstance(policy, Policy) and isinstance(routes, Routes):
        entries = [content for content in contents.values() if not isinstance(content, (Policy, Routes))]
        problems += problems_between(entries, policy, routes)
    if problems:
        raise refuse("registry", problems, "registry.invalid")


def _read(path: Path, problems: list[str]) -> Iterator[tuple[Entry, str]]:
    content = read_yaml(path) or {}
    if not isinstance(content, dict):
        problems.append(f"{path.name}: must have one or more of {', '.join(_SECTIONS)}")
        return
    for section, items in content.items():
        model = _SECTIONS.get(section)
        if model is None or not isinstance(items, list):
            why = f"must be a list under one of {', '.join(_SECTIONS)}"
            problems.append(f"{path.name}: {section} {why}")
            continue
        for number, item in enumerate(items):
            place = f"{path.name}: {section}[{number}]"
            if isinstance(item, dict) and isinstance(item.get("id"), str):
                place += f" ({item['id']})"
            try:
                parsed = model.model_validate(item)
                records: list[Entry] = [*parsed.records()] if isinstance(parsed, _Connection) else [parsed]
            except ValidationError as error:
                problems += [f"{place} {problem}" for problem in problems_of(error)]
                continue
            for record in records:
                yield record, place


def _document(entries: Sequence[Entry]) -> RegistryDocument:
    return RegistryDocument(
        parties=tuple(e for e in entries if isinstance(e, Party)),
        boards=tuple(e for e in entries if isinstance(e, Board)),
        schools=tuple(e for e in entries if isinstance(e, School)),
        agreements=tuple(e for e in entries if isinstance(e, Agreement)),
        exceptions=tuple(e for e in entries if isinstance(e, TemporaryException)),
        connections=tuple(e for e in entries if isinstance(e, ConnectionSide)),
        successions=tuple(e for e in entries if isinstance(e, Succession)),
    )
