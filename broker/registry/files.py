"""A folder of YAML files, and the checks between entries that stand before every change of the registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, ValidationError

from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.policy.document import Written, problems_of, read_yaml, refuse
from broker.registry.models import (
    Agreement,
    Board,
    ConnectionSide,
    Entry,
    EntryId,
    Party,
    PartyId,
    ProductId,
    PublicKey,
    RegistryDocument,
    School,
    SchoolId,
    key_of,
)
from broker.registry.registry import POLICY_KEY, ROUTES_KEY, Registry, parse_record, record_of

Where = Mapping[str, str]


class _Side(Written):
    state: Literal["offered", "accepted", "declined", "revoked"]
    accepted_by: PartyId | None = None
    mandate: PartyId | None = None
    at: AwareDatetime


class _Connection(Written):
    """Both sides of a connection, as they stand in a file."""

    id: EntryId
    school: SchoolId
    sender: PartyId
    receiver: PartyId
    service: str
    products: tuple[ProductId, ...] | Literal["all"] = "all"
    sides: Annotated[Mapping[Literal["sender", "receiver"], _Side], Field(min_length=1)]

    def records(self) -> Iterator[ConnectionSide]:
        shared = self.model_dump(exclude={"sides"})
        for side, said in self.sides.items():
            yield ConnectionSide.model_validate({**shared, "side": side, **said.model_dump()})


_SECTIONS: Final[Mapping[str, type[Entry | _Connection]]] = {
    "parties": Party, "boards": Board, "schools": School, "agreements": Agreement, "connections": _Connection,
}  # fmt: skip


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
        problems += _check(entries, policy or Policy.load(), routes or Routes.load(), where)
    if problems:
        raise refuse(f"registry in {folder}", problems, "registry.invalid")
    return _document(entries)


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
    entries: tuple[Entry, ...] = (
        *document.parties,
        *document.boards,
        *document.schools,
        *document.agreements,
        *document.connections,
    )
    records = {key_of(entry): record_of(entry) for entry in entries}
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
        problems += _check([c for c in contents.values() if not isinstance(c, (Policy, Routes))], policy, routes, {})
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
        connections=tuple(e for e in entries if isinstance(e, ConnectionSide)),
    )


def _check(entries: Sequence[Entry], policy: Policy, routes: Routes, where: Where) -> list[str]:
    document = _document(entries)
    checks = _Checks(document, policy, routes)
    found: list[tuple[Entry, str]] = [
        *((s, p) for s in document.schools for p in checks.school(s)),
        *((a, p) for a in document.agreements for p in checks.agreement(a)),
        *((c, p) for c in document.connections for p in checks.connection(c)),
    ]
    return [f"{where.get(key_of(entry), key_of(entry))} {problem}" for entry, problem in found]


class _Checks:
    """What entries must say of each other; each check yields `field: what is wrong`."""

    def __init__(self, document: RegistryDocument, policy: Policy, routes: Routes) -> None:
        self.parties = {p.id: p for p in document.parties}
        self.boards = {b.id for b in document.boards}
        self.schools = {s.id: s for s in document.schools}
        self.sides = {(c.id, c.side): c for c in document.connections}
        self.policy, self.routes = policy, routes

    def school(self, school: School) -> Iterator[str]:
        if school.board not in self.boards:
            yield f"board: there is no board {school.board}"
        sis = self.parties.get(school.sis)
        if sis is None:
            yield f"sis: there is no party {school.sis}"
        elif "SIS" not in sis.roles:
            yield f"sis: {school.sis} does not have the role SIS"

    def agreement(self, agreement: Agreement) -> Iterator[str]:
        if agreement.board not in self.boards:
            yield f"board: there is no board {agreement.board}"
        if agreement.party not in self.parties:
            yield f"party: there is no party {agreement.party}"
        for school in agreement.schools if isinstance(agreement.schools, tuple) else ():
            if school not in self.schools:
                yield f"schools: there is no school {school}"
            elif self.schools[school].board != agreement.board:
                yield f"schools: {school} is not a school of board {agreement.board}"
        for attribute in agreement.attributes:
            if attribute not in self.policy.attributes:
                yield f"attributes: the policy knows no attribute {attribute}"
            elif not self.policy.can_pass(attribute):
                yield f"attributes: {attribute} never passes, so no agreement may promise it"

    def connection(self, side: ConnectionSide) -> Iterator[str]:
        if side.school not in self.schools:
            yield f"school: there is no school {side.school}"
        for name, party in (("sender", side.sender), ("receiver", side.receiver)):
            if party not in self.parties:
                yield f"{name}: there is no party {party}"
        other = self.sides.get((side.id, "receiver" if side.side == "sender" else "sender"))
        if other is not None and other.about() != side.about():
            yield f"{side.side}: its two sides are about different links"
        sender, receiver = self.parties.get(side.sender), self.parties.get(side.receiver)
        if (
            sender
            and receiver
            and not any(
                r.family == side.service and r.sender_role in sender.roles and r.receiver_role in receiver.roles
                for r in self.routes
            )
        ):
            yield f"service: no route takes {side.service} from {side.sender} to {side.receiver}"
        school = self.schools.get(side.school)
        if school and side.state == "accepted" and not side.counts(school):
            yield (
                f"{side.side}: this acceptance does not count: accepted_by must be {side.party} or {school.sis},"
                f" mandate {school.sis}, and at not before {school.mandated_from}"
            )
