"""`broker witness`: cosign the logs of a broker, as a school board or a supplier."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.output import err, out
from broker.errors import ConfigError

if TYPE_CHECKING:
    from broker.witness.server import Listening, Witness

app = typer.Typer(no_args_is_help=True, help="Witness the logs of a broker: cosign them only while they grow.")


@app.callback()
def witness() -> None:
    """Witness the logs of a broker: cosign them only while they grow."""


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Of the witness, such as witness.school.example; it never changes.")],
    file: Annotated[Path, typer.Option("--key", help="File to make; it holds the private key.")],
) -> None:
    """Make the key of a witness. Prints the public key: what the broker and all readers configure."""
    from broker.witness.key import create

    cosigner = create(file, name)
    out.print(cosigner.vkey, markup=False)
    err.print(f"the private key is in {file}; keep it on this machine", markup=False)


@app.command()
def run(
    state: Annotated[Path, typer.Option(help="Folder of this witness alone. Never put an older copy of it back.")],
    key_file: Annotated[Path, typer.Option("--key", help="What `broker witness key` made.")],
    log_key: Annotated[list[Path], typer.Option(help="File of public keys of logs, one a line; may be repeated.")],
    listen: Annotated[str, typer.Option(help="Host and port of the witness.")] = "127.0.0.1:8090",
    cert: Annotated[Path | None, typer.Option(help="Certificate, PEM; needed beyond this machine.")] = None,
    cert_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    insecure_plaintext: Annotated[
        bool, typer.Option("--insecure-plaintext", help="Listen beyond this machine without TLS: a proxy has it.")
    ] = False,
    http: Annotated[str | None, typer.Option(help="Host and port of /healthz and /metrics; without it: none.")] = None,
) -> None:
    """Cosign checkpoints until SIGTERM."""
    from broker.app import logs
    from broker.witness.cosign import TrustedLogs
    from broker.witness.key import load, read_vkeys
    from broker.witness.server import Listening, Witness
    from broker.witness.state import State

    host, port = address(listen)
    where = Listening(
        host, port, None if http is None else address(http), cert, cert_key, insecure_plaintext=insecure_plaintext
    )  # fmt: skip
    cosigner, trusted = load(key_file), TrustedLogs(read_vkeys(log_key))
    logs.configure()
    opened = State(state)
    try:
        asyncio.run(_serve(Witness(opened, cosigner, trusted), where))
    finally:
        opened.close()


async def _serve(witness: Witness, where: Listening) -> None:
    from broker.witness.server import WitnessServer

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        async with WitnessServer(witness, where) as server:
            err.print(f"witness listens on {where.host}, port {server.port}", markup=False)
            await told.wait()
    except OSError as error:
        raise ConfigError(f"The witness can not listen: {error.strerror}.", code="witness.listen") from error


def address(text: str) -> tuple[str, int]:
    """`host:port`; an IPv6 host in brackets.

    Raises:
        ConfigError: `witness.listen`.
    """
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError("Give host and port, such as 127.0.0.1:8090 or [::1]:8090.", code="witness.listen")
    return host.removeprefix("[").removesuffix("]"), int(port)
