"""`broker party add`, `sandbox` and `check`: from nothing to a party that takes part."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer
import yaml

from broker.app.provision import NewProfile, add_profile
from broker.app.suspension import require_not_suspended, take_back_from_suspended
from broker.cli.output import err, json_line, out, table
from broker.cli.party_life import Connection, PartyId, Profiles
from broker.client.profile import CONNECTION_FILE, Profile
from broker.errors import ConfigError
from broker.kafka.access import party_acls
from broker.kafka.admin import Admin
from broker.kafka.connection import KafkaConnection
from broker.kafka.rights import has_topic
from broker.onboarding.bundle import write_bundle
from broker.onboarding.counterpart import play
from broker.onboarding.folder import Newcomer, add_to_folder
from broker.onboarding.sandbox import COUNTERPART, sandbox_of
from broker.onboarding.selfcheck import findings
from broker.registry import Registry, store

Folder = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        file_okay=False,
        help="The registry's folder: put the party and its sandbox there, and make the bundle.",
    ),
]  # fmt: skip
Roles = Annotated[str, typer.Option(help="Of a party that the folder does not have: SIS, SHOP, PUBLISHER, PORTAL; commas between.")]  # fmt: skip  # noqa: E501


AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `broker party`."""
    app.command()(add)
    app.command()(sandbox)
    app.command()(check)


def add(
    party_id: Annotated[str, typer.Argument(metavar="PARTY", help="Its id: a-z, 0-9 and dashes.")],
    connection: Connection,
    profiles: Profiles = Path("profiles"),
    registry: Folder = None,
    roles: Roles = "",
    name: Annotated[str | None, typer.Option(help="What it is called; by default its id.")] = None,
    covenant: Annotated[
        str, typer.Option(help="How it stands to the privacy covenant: deelnemer, medestander or geen.")
    ] = "geen",
    attested_on: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Day of its security attestation; without it, it gets no ECK iDs."),
    ] = None,
    processor_url: Annotated[
        str | None, typer.Option(help="An https:// address that names it in the audit as receiver.")
    ] = None,
) -> None:
    """Make a login, keys and a profile folder; with --registry the whole bundle for a supplier. Repeat it at will.

    Without --registry it prints the public key for the registry. With it, the party's entry, a sandbox school and the
    counterpart are files of the registry then, and the profile folder holds settings, schemas, events to try, and a
    README that says what to do. What is there is kept, but for what the bundle is made of.
    """
    party_acls(party_id)  # no id that is malformed, or the name of a service
    if party_id == COUNTERPART:
        raise ConfigError(
            f"{COUNTERPART} is the counterpart in every sandbox; who has its login sees them all. Choose another id.",
            code="party.id",
        )
    cluster = KafkaConnection.from_file(connection)
    admin = Admin(cluster)
    for each in (party_id, *((COUNTERPART,) if registry is not None else ())):
        require_not_suspended(admin, each)
    if registry is not None:
        _require_all_of_it(registry, admin)
    profile = add_profile(admin, cluster, party_id, profiles)
    take_back_from_suspended(admin, party_id)
    err.print(f"profile: {profile.folder} (give it to the party over a safe channel; it holds its password and keys)")
    if registry is not None:
        wanted = tuple(role.strip() for role in roles.split(",") if role.strip())
        attested = None if attested_on is None else attested_on.date()
        newcomer = Newcomer(party_id, wanted, name, covenant, attested, processor_url)
        _bundle(registry, newcomer, profile, add_profile(admin, cluster, COUNTERPART, profiles))
        where = str(registry)
    elif roles:
        raise ConfigError(
            "--roles belong to an entry of the registry: give its folder with --registry", code="party.roles"
        )
    else:
        err.print("next: put the party with this key into the registry, then")
        where = "DIR"
        entry = {"id": party_id, "keys": [profile.public_key.model_dump(mode="json")]}
        out.print(yaml.safe_dump(entry, sort_keys=False), end="")
    err.print(f"  broker registry apply {where} --reason .. && broker topics apply --registry {where}", markup=False)
    if registry is not None:
        err.print(f"  broker party sandbox {party_id} --profiles {profiles}", markup=False)


def sandbox(
    party_id: PartyId,
    connection: Connection,
    profiles: Profiles = Path("profiles"),
    as_json: AsJson = False,
) -> None:
    """Play the counterpart in a party's sandbox: enrol its pupils, and send the party one event of each family.

    Ends with 1 when one of them does not get through. Links are left as they are: each switch would be a change of the
    registry.
    """
    cluster = KafkaConnection.from_file(connection)
    registry = Registry.from_records(asyncio.run(store.read_records(cluster)))
    found = sandbox_of(registry, party_id)
    if found is None:
        raise ConfigError(
            f"The registry has no sandbox for {party_id}. `broker party add {party_id} --registry DIR` makes one; then "
            "`broker registry apply DIR`.",
            code="sandbox.missing",
        )
    played = asyncio.run(play(Profile.load(profiles / COUNTERPART), found, registry.routes, _today()))
    if as_json:
        for one in played:
            json_line({"family": one.family, "kind": one.kind, "code": one.code, "ok": one.ok})
    else:
        table("", ["family", "kind", "outcome"], [(one.family, one.kind, one.code) for one in played])
    if not all(one.ok for one in played):
        err.print("not all came through; docs/reference/outcomes.md says what the codes mean")
        raise typer.Exit(1)


def check(
    profile: Annotated[Path, typer.Argument(help="Folder of the bundle.", file_okay=False)], as_json: AsJson = False
) -> None:
    """For the supplier: go through a bundle, from its files to an event there and back; says what is missing.

    Ends with 0 when all is ok, with 1 when something is not. Prints no secret and nothing about people.
    """
    good = asyncio.run(_show(profile, as_json))
    raise typer.Exit(0 if good else 1)


async def _show(profile: Path, as_json: bool) -> bool:
    good = True
    async for finding in findings(profile):
        good = good and finding.ok
        if as_json:
            json_line(finding._asdict())
        else:
            out.print(f"{'ok     ' if finding.ok else 'MISSING'} {finding.step}: {finding.said}", markup=False)
            if finding.todo:
                out.print(f"        {finding.todo}", markup=False)
    return good


def _require_all_of_it(folder: Path, admin: Admin) -> None:
    """Whether the folder can be that of the registry: `apply` of one with the newcomer alone removes everybody else."""
    if any(folder.glob("*.yaml")) or not has_topic(admin, store.REGISTRY):
        return
    records = asyncio.run(store.read_records(admin.connection))
    if parties := sum(key.startswith("party/") for key in records):
        raise ConfigError(
            f"{folder} holds no registry, and the live one has {parties} parties: to apply this folder would remove "
            "them. Give the folder that is applied; nothing was made.",
            code="party.registry",
        )


def _bundle(folder: Path, newcomer: Newcomer, profile: NewProfile, counterpart: NewProfile) -> None:
    """Put the party into the registry's folder, and the bundle into its profile."""
    today = _today()
    added = add_to_folder(folder, newcomer, [profile.public_key], [counterpart.public_key], today)
    connection = KafkaConnection.from_file(profile.folder / CONNECTION_FILE)
    write_bundle(profile.folder, connection, added.registry, added.sandbox, today)
    for path in added.written:
        err.print(f"registry: wrote {path}", markup=False)
    if newcomer.processor_url is None and folder / f"party-{newcomer.party}.yaml" in added.written:
        err.print(f"note: put its name, covenant and processor_url right in party-{newcomer.party}.yaml", markup=False)
    if profile.public_key.kid not in {key.kid for key in added.party.keys}:
        err.print("note: its key is not in the folder; put this under its keys, if the registry has none of it:")
        out.print(yaml.safe_dump([profile.public_key.model_dump(mode="json")], sort_keys=False), end="")
    err.print("next:")


def _today() -> date:
    return datetime.now(UTC).date()
