"""`broker audit ask`: a board or a party asks the service, and checks each answer with keys of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.audit import export
from broker.audit.signed import keys_in_file
from broker.audit.story import story
from broker.auditserve.rights import Question
from broker.cli.audit_find import Moment, ReceiptFile, bytes_of, moment_of, salt_of, write_receipt
from broker.cli.output import err, json_line, table
from broker.errors import ConfigError

if TYPE_CHECKING:
    from broker.audit.query import Found
    from broker.auditserve.answers import Answer
    from broker.auditserve.client import Service

app = typer.Typer(no_args_is_help=True, help="Ask the audit service of a broker, and check each answer.")

MOST_PAGES: Final = 100
MOST_ID_BYTES: Final = 1_024

ServiceUrl = Annotated[str, typer.Option("--service", envvar="BROKER_AUDIT_SERVICE", help="https://host:port.")]
Cert = Annotated[Path, typer.Option(envvar="BROKER_AUDIT_CERT", help="Your certificate, PEM.")]
CertKey = Annotated[Path, typer.Option(envvar="BROKER_AUDIT_CERT_KEY", help="Its private key, PEM.")]
Ca = Annotated[
    Path | None,
    typer.Option(
        envvar="BROKER_AUDIT_CA", help="Who signed the service's certificate; default: whom the system trusts."
    ),
]
KeyFile = Annotated[
    Path, typer.Option(envvar="BROKER_AUDIT_KEYS", help="Public keys of the logs, one a line, from elsewhere.")
]
All = Annotated[bool, typer.Option("--all", help="Older ones too, page after page.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV with a header.")]


@app.callback()
def ask() -> None:
    """Ask the audit service of a broker, and check each answer."""


@app.command()
def find(
    service: ServiceUrl,
    cert: Cert,
    cert_key: CertKey,
    key_file: KeyFile,
    ca: Ca = None,
    school: Annotated[str | None, typer.Option(help="Only of this school (BRIN).")] = None,
    party: Annotated[str | None, typer.Option(help="Only with this party as sender or receiver.")] = None,
    process: Annotated[str | None, typer.Option(help="Only in this process.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event id.")] = None,
    decision: Annotated[str | None, typer.Option(help="Only this decision, such as refused.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this code.")] = None,
    since: Moment = None,
    until: Moment = None,
    everything: All = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Find decisions, each with its proof; without --since of the last 31 days. Ends with 1 when one is not proven."""
    body = {
        "school": school, "party": party, "process": process, "event": event, "decision": decision, "code": code,
        "since": moment_of(since), "until": moment_of(until),
    }  # fmt: skip
    known = _service(service, cert, cert_key, ca, key_file)
    _show(_pages(known, Question.FIND, body, everything=everything), as_json=as_json, as_csv=as_csv)


@app.command()
def person(
    service: ServiceUrl,
    cert: Cert,
    cert_key: CertKey,
    key_file: KeyFile,
    school: Annotated[str, typer.Option(help="At which the pupil is enrolled (BRIN).")],
    sector: Annotated[str, typer.Option(help="Of the enrolment: PO, VO or MBO.")],
    id_type: Annotated[str, typer.Option("--type", help="Of the id: ECK_ID, LAS_KEY, LEERLINGNUMMER, ...")],
    ca: Ca = None,
    id_file: Annotated[
        Path | None,
        typer.Option(help="File with the id alone; `-` is standard input. Without it you are asked for it."),
    ] = None,
    everything: All = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Find all decisions about a pupil of your school. The id is typed unseen, or read; it is no part of a command."""
    known = _service(service, cert, cert_key, ca, key_file)
    body = {"school": school, "sector": sector, "type": id_type, "value": _id(id_file)}
    _show(_pages(known, Question.PEOPLE, body, everything=everything), as_json=as_json, as_csv=as_csv)


@app.command()
def explain(
    event: Annotated[str, typer.Argument(help="Id of the event.")],
    service: ServiceUrl,
    cert: Cert,
    cert_key: CertKey,
    key_file: KeyFile,
    ca: Ca = None,
) -> None:
    """Tell the story of one event from its leaves, as far as you may see them. Ends with 1 when one is not proven."""
    answer, rows = _one(_service(service, cert, cert_key, ca, key_file), Question.EXPLAIN, {"event": event})
    for sentence in story(rows):
        typer.echo(sentence)
    _tell(answer, rows)


@app.command()
def receipt(
    event: Annotated[str, typer.Argument(help="Id of the event.")],
    receiver: Annotated[str, typer.Argument(help="Id of the party that received it.")],
    service: ServiceUrl,
    cert: Cert,
    cert_key: CertKey,
    key_file: KeyFile,
    salt_file: Annotated[
        Path, typer.Option(help="The record's header `audit-salt`: 32 bytes, or the same in base64url. It is not sent.")
    ],
    out: ReceiptFile,
    value_file: Annotated[
        Path | None, typer.Option(help="The record's value; the receipt is then checked against it. It is not sent.")
    ] = None,
    ca: Ca = None,
) -> None:
    """Write a receipt: what shows, without the broker, that this was delivered."""
    from broker.auditserve.client import receipt_of

    known = _service(service, cert, cert_key, ca, key_file)
    salt, value = salt_of(bytes_of(salt_file)), None if value_file is None else bytes_of(value_file)
    answer, _ = _one(known, Question.RECEIPT, {"event": event, "receiver": receiver})
    write_receipt(out, receipt_of(answer, salt, known.verifiers, value))


def _service(url: str, cert: Path, cert_key: Path, ca: Path | None, key_file: Path) -> Service:
    from broker.auditserve.client import Service

    return Service.of(url, cert, cert_key, ca, keys_in_file(key_file))


def _one(service: Service, question: Question, body: Mapping[str, Any]) -> tuple[Answer, list[Found]]:
    """Ask once."""
    from broker.auditserve.client import held_against

    answer = asyncio.run(service.ask(question, body))
    return answer, [held_against(row, body) for row in answer.found]


def _pages(
    service: Service, question: Question, body: Mapping[str, Any], *, everything: bool
) -> tuple[Answer, list[Found]]:
    """Ask for the newest page, and for all of them if that is wanted; rows in the order of time."""
    answer, rows = _one(service, question, body)
    for _ in range(MOST_PAGES):
        if not everything or answer.next is None:
            break
        answer, older = _one(service, question, {**body, "before": answer.next})
        rows = [*older, *rows]
    return answer, rows


def _show(asked: tuple[Answer, list[Found]], *, as_json: bool, as_csv: bool) -> None:
    answer, rows = asked
    if as_json and as_csv:
        raise ConfigError("Choose one of --json and --csv.", code="audit.format")
    if as_json:
        for row in export.json_objects(rows):
            json_line(row)
    elif as_csv:
        export.write_csv(rows, typer.get_text_stream("stdout"))
    else:
        cells = [["-" if cell is None else cell for cell in export.cells(row)] for row in rows]
        table("", export.COLUMNS, cells)
    _tell(answer, rows)


def _tell(answer: Answer, rows: list[Found]) -> None:
    """What there is to know beside the rows.

    Raises:
        Exit: with 1, if a row is not proven.
    """
    for origin, (indexed, size) in sorted(answer.searched.items()):
        if indexed < size:
            err.print(f"{origin}: the newest {size - indexed} of {size} leaves were not searched yet", markup=False)
    if answer.next is not None:
        err.print("there may be older ones: ask with --all", markup=False)
    unproven = sum(row.problem is not None for row in rows)
    if unproven:
        err.print(f"{unproven} of {len(rows)} are not proven", markup=False)
        raise typer.Exit(1)


def _id(file: Path | None) -> str:
    """A pupil's id: typed without being shown, or the one line of a file."""
    if file is None:
        text: str = typer.prompt("id of the pupil (not shown)", hide_input=True, err=True)
    else:
        data = sys.stdin.buffer.read(MOST_ID_BYTES) if str(file) == "-" else bytes_of(file)[:MOST_ID_BYTES]
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ConfigError("The file with the id is not text in UTF-8.", code="audit.id") from None
    text = text.strip()
    if not text or len(text.splitlines()) != 1:
        raise ConfigError("Give one id: one line, and not an empty one.", code="audit.id")
    return text
