"""`broker audit index`, `find`, `explain`, `receipt`, `erasure`: questions to the signed logs, with proofs."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.audit import export
from broker.audit.indexing import index_log
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import Verifier
from broker.audit.query import Query
from broker.audit.signed import SignedLog, folders, keys_beside_logs, keys_in_file
from broker.audit.store import Store, Wanted
from broker.cli.output import err, json_line, out, table
from broker.errors import BrokerError, ConfigError

StoreFile = Annotated[Path, typer.Option("--store", help="The store; `index` makes it.")]
Logs = Annotated[Path, typer.Option("--logs", help="The folder of all logs, or a copy of it.")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        help="Keys of the logs, one a line, that you have from elsewhere; default: log.vkey beside each log, which "
        "shows damage but no forger."
    ),
]
ReceiptFile = Annotated[
    Path, typer.Option("--out", help="Where the .tlog-proof goes. It holds the salt: treat it as personal data.")
]
Moment = Annotated[
    str | None, typer.Option(help="A day or moment of ISO 8601, such as 2026-11-24 or 2026-11-24T09:00; UTC.")
]


def add_to(app: typer.Typer) -> None:
    """Have the commands in a group."""
    for command in (index, find, explain, receipt, erasure, anchor):
        app.command(command.__name__)(command)


def index(
    logs: Logs,
    store: StoreFile,
    key_file: KeyFile = None,
    connection: Annotated[
        Path | None, typer.Option(help="The auditor's connection file: leaves are then found by the person too.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Folder with the secret `school-keys`; goes with it.")] = None,
) -> None:
    """Take into the store what was signed since the last time. Only what leads to a signed root is taken in."""
    if (connection is None) != (keys is None):
        raise ConfigError("--connection and --keys go together: entries are sealed.", code="audit.people")
    known = _keys(logs, key_file)
    failed: list[BrokerError | OSError] = []  # one damaged log keeps back neither others nor who was erased
    with Store(store) as opened:
        for folder in folders(logs):
            try:
                _index_leaves(opened, folder, known)
            except (BrokerError, OSError) as error:
                failed.append(error)
        if connection is not None and keys is not None:
            _index_people(opened, connection, keys)
    for other in failed[1:]:
        err.print(str(other), markup=False)
    if failed:
        raise failed[0]


def _index_leaves(store: Store, folder: Path, known: list[Verifier]) -> None:
    log = SignedLog.open(LogDirectory(folder), known)
    if log is not None:
        done = index_log(store, log)
        err.print(
            f"{done.origin}: {done.decisions} decisions and {done.others} other leaves are new, {done.size} in all",
            markup=False,
        )


def _index_people(store: Store, connection: Path, keys: Path) -> None:
    from broker.auditlog.indexer import LOST, read_people  # with it come Kafka's clients
    from broker.identity.vault import SCHOOLS, SchoolKeys
    from broker.kafka.connection import KafkaConnection
    from broker.keys import versions
    from broker.keys.open import open_keys

    schools = SchoolKeys(versions(open_keys(keys), SCHOOLS))

    def lost(source: str) -> None:
        err.print(f"{source}: {LOST}", markup=False)

    done = asyncio.run(read_people(store, KafkaConnection.from_file(connection), schools, lost))
    err.print(f"{done.read} entries about persons are new, {done.waiting} wait for their leaf", markup=False)
    if done.forgotten:
        err.print(f"{done.forgotten} rows led to persons who were erased, and are gone", markup=False)


def find(
    store: StoreFile,
    logs: Logs,
    key_file: KeyFile = None,
    school: Annotated[str | None, typer.Option(help="Only of this school (BRIN).")] = None,
    party: Annotated[str | None, typer.Option(help="Only with this party as sender or receiver.")] = None,
    process: Annotated[str | None, typer.Option(help="Only in this process.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event id.")] = None,
    decision: Annotated[str | None, typer.Option(help="Only this decision, such as refused.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this code.")] = None,
    since: Moment = None,
    until: Moment = None,
    most: Annotated[int, typer.Option(min=1, help="Rows at most; the newest are shown.")] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header.")] = False,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file (needs the extra `audit`).")] = None,
) -> None:
    """Find decisions, each with its proof. Never a value. Ends with 1 when one could not be proven.

    By pupil, local id or ECK iD: `broker audit ask person`, for only the audit service has the school's key.
    """
    if as_json + as_csv + (parquet is not None) > 1:
        raise ConfigError("Choose one of --json, --csv and --parquet.", code="audit.format")
    wanted = Wanted(school, party, process, event, decision, code, moment_of(since), moment_of(until), most=most)
    with _query(store, logs, key_file) as query:
        rows = query.find(wanted)
    if as_json:
        for row in export.json_objects(rows):
            json_line(row)
    elif as_csv:
        export.write_csv(rows, typer.get_text_stream("stdout"))
    elif parquet is not None:
        export.write_parquet(rows, parquet)
    else:
        cells = [["-" if cell is None else cell for cell in export.cells(row)] for row in rows]
        table("", export.COLUMNS, cells)
    if len(rows) == most:
        err.print(f"there may be older ones than these {most}: narrow the question, or raise --most", markup=False)
    unproven = sum(row.problem is not None for row in rows)
    if unproven:
        err.print(f"{unproven} of {len(rows)} could not be proven", markup=False)
        raise typer.Exit(1)


def explain(
    event: Annotated[str, typer.Argument(help="Id of the event.")],
    store: StoreFile,
    logs: Logs,
    key_file: KeyFile = None,
) -> None:
    """Tell the story of one event: who sent it, what was decided on what, and which attributes went along."""
    with _query(store, logs, key_file) as query:
        for sentence in query.explain(event):
            typer.echo(sentence)


def receipt(
    event: Annotated[str, typer.Argument(help="Id of the event.")],
    receiver: Annotated[str, typer.Argument(help="Id of the party that received it.")],
    store: StoreFile,
    logs: Logs,
    salt_file: Annotated[
        Path, typer.Option(help="The record's header `audit-salt`: 32 bytes, or the same in base64url.")
    ],
    out: ReceiptFile,
    value_file: Annotated[
        Path | None, typer.Option(help="The record's value; the receipt is then checked against it.")
    ] = None,
    key_file: KeyFile = None,
) -> None:
    """Write a receipt: what shows, without the broker, that this was delivered."""
    salt = salt_of(bytes_of(salt_file))
    value = None if value_file is None else bytes_of(value_file)
    with _query(store, logs, key_file) as query:
        data = query.receipt(event, receiver, salt, value)
    write_receipt(out, data)


def erasure(
    event: Annotated[str, typer.Argument(help="Id of the ERASE event.")],
    store: StoreFile,
    logs: Logs,
    out: Annotated[Path, typer.Option(help="Where the .tlog-proof goes. It says nothing about the person.")],
    key_file: KeyFile = None,
) -> None:
    """Write the receipt of an erasure: what shows, without the broker, that it was carried out."""
    with _query(store, logs, key_file) as query:
        data = query.erasure(event)
    write_receipt(out, data)


def write_receipt(out: Path, data: bytes) -> None:
    """For its owner alone; says how it is checked."""
    out.touch(mode=0o600)
    out.write_bytes(data)
    err.print(f"{out} is written; check it with: broker audit verify receipt {out}", markup=False)


@contextmanager
def _query(store: Path, logs: Path, key_file: Path | None) -> Iterator[Query]:
    if not store.is_file():
        raise ConfigError(f"{store} is not there. Make it: broker audit index.", code="audit.store")
    known = _keys(logs, key_file)
    with Store(store) as opened:
        opened.hold()
        yield Query(opened, logs, known)


def _keys(logs: Path, key_file: Path | None) -> list[Verifier]:
    return keys_beside_logs(logs) if key_file is None else keys_in_file(key_file)


def moment_of(text: str | None) -> int | None:
    """Milliseconds since 1970.

    Raises:
        ConfigError: `audit.moment`.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            "This is not a moment: write 2026-11-24 or 2026-11-24T09:00, in UTC or with an offset.", code="audit.moment"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def salt_of(data: bytes) -> bytes:
    """As it is, or decoded; what is no salt is refused by the receipt."""
    text = data.strip()
    return urlsafe_b64decode(text + b"=") if len(text) == 43 else data


def bytes_of(file: Path) -> bytes:
    """All of a file.

    Raises:
        ConfigError: `audit.file`.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} can not be read: {type(error).__name__}.", code="audit.file") from error


def anchor(
    text: Annotated[Path, typer.Argument(help="The file .txt of an anchor.", exists=True, dir_okay=False)],
    stamp: Annotated[Path, typer.Argument(help="Its file .tsr.", exists=True, dir_okay=False)],
    tsa_ca: Annotated[Path, typer.Option(help="Certificates of the authority, PEM, that you have from elsewhere.")],
    logs: Logs,
    key_file: KeyFile = None,
) -> None:
    """Verify an anchor: who stamped what, when, and that each log here continues it. Ends with 1 if not."""
    from broker.audit import anchor as anchors

    data = _at_most(text, anchors.MAX_TEXT_BYTES)
    at = anchors.check_token(_at_most(stamp, anchors.MAX_TOKEN_BYTES), data, anchors.authorities_in(tsa_ca))
    anchored = anchors.parse_text(data)
    found = list(anchors.findings(anchored, logs, _keys(logs, key_file)))
    for finding in found:
        err.print(f"FINDING: {finding}", markup=False)
    out.print(
        f"{'NOT VERIFIED' if found else 'VERIFIED'}: stamped at {at:%F %T} UTC; {len(anchored)} checkpoints of "
        f"{len({each.checkpoint.origin for each in anchored})} logs.",
        markup=False,
    )
    if found:
        raise typer.Exit(1)


def _at_most(file: Path, limit: int) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise ConfigError(f"{file} has more than {limit} bytes: it is no file of an anchor.", code="audit.anchor")
    return data
