"""`broker keys`: make, replace, hand out and destroy keys. Private material is never printed."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from aiokafka.errors import KafkaError

from broker.cli import keys_rotate
from broker.cli.output import err, json_line, table
from broker.client.published import read_compacted, read_log
from broker.crypto import JWE_ALG
from broker.errors import ConfigError
from broker.exchange.keys import BROKER
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.publish import BROKER_KEYS
from broker.keys import FileKeys, RecipientKey, create_first
from broker.keys.open import open_keys, transit_wrapping
from broker.keys.wrapped import rewrap_folder, versions_in, wrap_folder
from broker.registry import brokerkeys
from broker.registry.store import AUDIT_CONTROL

app = typer.Typer(no_args_is_help=True, help="Make, replace, hand out and destroy keys.")

Folder = Annotated[Path, typer.Option("--keys", envvar="BROKER_KEYS", help="Folder of key files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON per key.")]
Owner = Annotated[str, typer.Argument(help="Whose key: broker, operator, or a party's id.")]
Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")]

_T = TypeVar("_T")
DEFAULT_FOLDER = Path("keys")


@app.command()
def create(
    owner: Annotated[str | None, typer.Argument(help="Whose key: broker, operator, or a party's id.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="Also make a named secret; may be repeated.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Make a recipient key, and named secrets. What is there already is kept: `rotate` makes a newer one."""
    if owner is None and not secret:
        raise ConfigError("say whose key to make, or which --secret", code="keys.name")
    keys = open_keys(folder)
    if owner is not None:
        known = keys.recipient_keys(owner)
        if known:
            err.print(f"{owner} has a key already; `broker keys rotate {owner}` makes a newer one", markup=False)
        _show(owner, known[:1] or (keys.create(owner),), as_json)
    for name in secret or ():
        made = create_first(keys, name)
        err.print(f"secret {name} {'made' if made else 'is there already'}", markup=False)


@app.command("list")
def show(folder: Folder = DEFAULT_FOLDER, as_json: AsJson = False) -> None:
    """List keys, newest first, and the names of secrets; with the version of the transit key that wraps each."""
    keys = open_keys(folder)
    rows: list[dict[str, Any]] = []
    for owner in keys.owners():
        for number, key in enumerate(keys.recipient_keys(owner)):
            rows.append({**_row(owner, key), "state": "older" if number else "newest"})
    rows += [{"kid": name, "owner": "", "created": "", "state": "secret"} for name in keys.secret_names()]
    versions = versions_in(folder)
    rows = [{**row, "wrapped": versions.get(row["kid"])} for row in rows]
    if as_json:
        for row in rows:
            json_line(row)
    else:
        for row in rows:
            row["wrapped"] = "in clear" if row["wrapped"] is None else f"v{row['wrapped']}"
        table(f"Keys in {folder}", ["kid", "owner", "created", "state", "wrapped"], [[*row.values()] for row in rows])


@app.command()
def rotate(
    owner: Annotated[
        str, typer.Argument(help="vault, index or broker: replace it while all runs. Else whose: a newer key is made.")
    ],
    connection: Annotated[
        Path | None, typer.Option(envvar="BROKER_CONNECTION", help="The operator's connection file.")
    ] = None,
    rotator: Annotated[
        Path | None,
        typer.Option(envvar="BROKER_ROTATOR", help="Connection file of key-rotator; default: beside the operator's."),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only show where it stands.")] = False,
    make_only: Annotated[
        bool, typer.Option("--make-only", help="End once the newer one is made: to bring it to other machines first.")
    ] = False,
    grace: Annotated[float, typer.Option(min=0.0, help="Seconds that every process has to read a newer key.")] = 60.0,
    destroy_older: Annotated[
        bool, typer.Option("--destroy", help="broker: destroy the older key once nothing needs it any more.")
    ] = False,
    group: Annotated[str, typer.Option(help="broker: consumer group of the workers.")] = "exchange",
    reason: Annotated[str, typer.Option(help="Why; stands in the audit for ever.")] = "rotation of keys",
    operator: Annotated[str | None, typer.Option(help="Who does this; default: the user of this machine.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Replace a key. Of vault, index and broker: step by step, without a stop; run it again, it goes on.

    Of anybody else, or without a connection, it makes a newer key; the older ones still open what is sealed for them.
    """
    keys = open_keys(folder)
    if owner in keys_rotate.STAGED and (connection is not None or owner != BROKER):
        if connection is None:
            raise ConfigError("give --connection: the registry says which key is in use", code="keys.connection")
        who = operator or getpass.getuser()
        job = keys_rotate.job_of(keys, connection, rotator, who, reason, grace, make_only=make_only)
        if status:
            keys_rotate.show(owner, job, keys, group, as_json=as_json)
        else:
            keys_rotate.run(owner, job, keys, group, destroy=destroy_older, as_json=as_json)
        return
    _known(keys, owner)
    _show(owner, (keys.create(owner),), as_json)
    if owner == BROKER:
        err.print("now run `broker keys publish`, so that senders take it", markup=False)


@app.command()
def export(owner: Owner, folder: Folder = DEFAULT_FOLDER) -> None:
    """Print the public keys as a JWK set (RFC 7517), newest first: what a registry or another party may have."""
    found = _known(open_keys(folder), owner)
    document = {"keys": [{**key.jwk, "kid": key.kid, "use": "enc", "alg": JWE_ALG} for key in found]}
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


@app.command()
def trust(
    owner: Owner,
    file: Annotated[Path, typer.Argument(help="What `broker keys export OWNER` printed.", exists=True, dir_okay=False)],
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Keep the newest public key of somebody else, to seal for him. Workers need the operator's, public half only."""
    try:
        newest = json.loads(file.read_text("utf-8"))["keys"][0]
        jwk = {name: str(newest[name]) for name in ("kty", "crv", "x", "y")}
        kid = str(newest["kid"])
    except (ValueError, LookupError, TypeError):
        raise ConfigError(f"{file} is no JWK set; make it with `broker keys export`", code="keys.damaged") from None
    if "d" in newest:
        raise ConfigError(f"{file} holds a private key: destroy it, and rotate that key", code="keys.private")
    open_keys(folder).add_public(owner, RecipientKey(kid, jwk, int(time.time())))
    err.print(f"{kid} is trusted as the key of {owner}", markup=False)


@app.command()
def destroy(
    kid: Annotated[str, typer.Argument(help="Id of the key, as `broker keys list` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really do it.")] = False,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Destroy a private key. What is sealed for it can not be opened any more, by anyone: backups included."""
    if not yes:
        raise ConfigError(
            "nothing was destroyed: what is sealed for a destroyed key is lost for good; say --yes to do it",
            code="keys.confirm",
        )
    open_keys(folder).destroy(kid)
    err.print(f"{kid} is destroyed", markup=False)


@app.command()
def wrap(folder: Folder = DEFAULT_FOLDER) -> None:
    """Wrap all keys of a folder by the transit server that BROKER_TRANSIT_ADDRESS names. Stop what uses them first.

    Each is read back before it takes the place of its original; at the end the originals are overwritten and removed.
    Killed in the middle, run it again.
    """
    changed, already = wrap_folder(folder, transit_wrapping())
    err.print(f"{changed} files of {folder} are wrapped now, {already} were so already", markup=False)
    if changed:
        err.print("backups and snapshots of before hold them in clear: destroy those", markup=False)


@app.command()
def rewrap(folder: Folder = DEFAULT_FOLDER) -> None:
    """Wrap all keys of a folder under the newest version of the transit key, after a rotation there.

    They do not come here in clear. Killed in the middle, run it again.
    """
    changed, already = rewrap_folder(folder, transit_wrapping())
    err.print(f"{changed} files of {folder} are rewrapped, {already} had the newest version already", markup=False)


@app.command()
def publish(
    connection: Connection,
    reason: Annotated[
        str, typer.Option(help="Why; stands in the audit for ever.")
    ] = "publication of the broker's keys",
    operator: Annotated[str | None, typer.Option(help="Who does this; default: the user of this machine.")] = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """Put the broker's public keys on the topic `broker.keys`, where senders find them; take destroyed ones back.

    Ids and thumbprints of all of them stand on `audit.control`, in the same transaction.
    """
    found = _known(open_keys(folder), BROKER)
    cluster = KafkaConnection.from_file(connection)
    done = _run(brokerkeys.publish(cluster, found, operator or getpass.getuser(), reason, alone=True), cluster)
    older = f", and {len(found) - 1} older" if len(found) > 1 else ""
    err.print(f"on broker.keys, where senders find it: {found[0].kid}{older}", markup=False)
    for kid in done.gone:
        err.print(f"{kid} is not in {folder} any more and was taken back", markup=False)


@app.command()
def published(
    connection: Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="An auditor's or the operator's.")],
    as_json: AsJson = False,
) -> None:
    """List the keys on `broker.keys` with their thumbprints, and whether the audit names them; exit code 1 if not."""
    cluster = KafkaConnection.from_file(connection)
    records, leaves = _run(_published(cluster), cluster)
    odd = brokerkeys.differing(records, leaves)
    rows = [(kid, brokerkeys.thumbprint(records[kid]), "no" if kid in odd else "yes") for kid in sorted(records)]
    rows += [(kid, "", "only there") for kid in odd if kid not in records]
    if as_json:
        for kid, thumbprint, audited in rows:
            json_line({"kid": kid, "thumbprint": thumbprint, "audited": audited})
    else:
        table("Keys on broker.keys", ["kid", "thumbprint", "in the audit"], rows)
    if odd:
        err.print(
            "Not all of these came by our commands: find out who wrote there. `broker keys publish` puts it right, and "
            "says so in the audit.",
            markup=False,
        )
        raise typer.Exit(1)


async def _published(cluster: KafkaConnection) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    records = await read_compacted(cluster, BROKER_KEYS)
    leaves = await read_log(cluster, AUDIT_CONTROL)
    return records, [json.loads(leaf) for leaf in leaves]


def _run(work: Coroutine[Any, Any, _T], cluster: KafkaConnection) -> _T:
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise explain(error, cluster) from error


def _known(keys: FileKeys, owner: str) -> tuple[RecipientKey, ...]:
    found = keys.recipient_keys(owner)
    if not found:
        raise ConfigError(
            f"{owner} has no key in {keys.folder}; make one with `broker keys create {owner}`", code="keys.missing"
        )
    return found


def _row(owner: str, key: RecipientKey) -> dict[str, Any]:
    created = datetime.fromtimestamp(key.created, UTC).isoformat().replace("+00:00", "Z")
    return {"kid": key.kid, "owner": owner, "created": created}


def _show(owner: str, keys: tuple[RecipientKey, ...], as_json: bool) -> None:
    rows = [_row(owner, key) for key in keys]
    if as_json:
        for row in rows:
            json_line(row)
    else:
        table("", ["kid", "owner", "created"], [list(row.values()) for row in rows])
