"""Options that the commands of `broker auditlog` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.auditlog.book import SECRET

Name = Annotated[
    str,
    typer.Option(
        "--name", envvar="BROKER_AUDITLOG_NAME", help="Of all logs of this installation: broker.example/audit."
    ),
]
Connection = Annotated[Path, typer.Option(envvar="BROKER_CONNECTION", help="Connection file of user log-builder.")]
Keys = Annotated[
    Path,
    typer.Option(
        "--keys", envvar="BROKER_AUDITLOG_KEYS", help=f"Folder with the secret {SECRET} (and its next), and no other."
    ),
]
Logs = Annotated[Path, typer.Option("--logs", envvar="BROKER_AUDITLOG_LOGS", help="Folder of all logs.")]
HttpHost = Annotated[str, typer.Option(help="Where probes and metrics are served.")]
HttpPort = Annotated[int, typer.Option(help="Port of /healthz, /readyz and /metrics; 0: none.")]

DEFAULT_KEYS = Path("auditlog-keys")
DEFAULT_LOGS = Path("auditlog")
