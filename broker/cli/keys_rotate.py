"""`broker keys rotate vault|index|broker`: replaces a key of the broker's own while everything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiokafka.errors import KafkaError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from broker.cli.output import err, json_line, table
from broker.identity.vault import RECORDS, SCHOOLS
from broker.kafka.access import KEY_ROTATOR
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.keys import FileKeys

if TYPE_CHECKING:
    from broker.rotation.secrets import Job

SECRETS: Final[Mapping[str, str]] = MappingProxyType({"vault": RECORDS, "index": SCHOOLS})
#: What is replaced step by step; other keys are just made anew.
STAGED: Final = frozenset({*SECRETS, "broker"})
TICK_S: Final = 0.5

_T = TypeVar("_T")


class _Shown:
    """Progress on a terminal, or as lines of JSON."""

    def __init__(self, progress: Progress, *, as_json: bool) -> None:
        self._progress, self._as_json = progress, as_json
        self._bar: TaskID | None = None

    def step(self, name: str, text: str) -> None:
        self._end()
        if self._as_json:
            json_line({"step": name, "text": text})
        else:
            self._progress.console.print(text, markup=False)

    def partition(self, number: int, of: int, old: int) -> None:
        self._end()
        if self._as_json:
            json_line({"step": "partition", "partition": number, "of": of, "older": old})
        self._bar = self._progress.add_task(f"vault.identity, partition {number + 1} of {of}", total=old)

    def rewritten(self, records: int) -> None:
        if self._bar is not None:
            self._progress.advance(self._bar, records)

    async def wait(self, seconds: float, why: str) -> None:
        if seconds <= 0:
            return
        self._end()
        if self._as_json:
            json_line({"step": "waits", "seconds": round(seconds), "text": why})
        elif self._progress.disable:  # in a log nobody sees the bar
            self._progress.console.print(f"waits {round(seconds)} seconds {why}", markup=False)
        self._bar = self._progress.add_task(f"waits {why} (s)", total=round(seconds))
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := began + seconds - loop.time()) > 0:
            await asyncio.sleep(min(left, TICK_S))
            self._progress.update(self._bar, completed=int(loop.time() - began))

    def _end(self) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None


@contextmanager
def _shown(*, as_json: bool) -> Iterator[_Shown]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        yield _Shown(progress, as_json=as_json)


def job_of(
    keys: FileKeys, operator: Path, rotator: Path | None, who: str, reason: str, grace_s: float, *, make_only: bool
) -> Job:
    """What a rotation works with; the connection of `key-rotator` is beside the operator's unless it is given.

    Raises:
        ConfigError: `kafka.*`, `config.file`: a connection file is missing or not as it must be.
    """
    from broker.rotation.secrets import Job  # with it come Kafka's clients

    second = rotator or operator.parent / f"{KEY_ROTATOR}.json"
    connections = KafkaConnection.from_file(operator), KafkaConnection.from_file(second)
    return Job(*connections, keys, who, reason, grace_s, make_only)


def run(what: str, job: Job, keys: FileKeys, group: str, *, destroy: bool, as_json: bool) -> None:
    """Go on from where it stands."""
    from broker.rotation.recipient import rotate_recipient
    from broker.rotation.secrets import rotate_secret

    with _shown(as_json=as_json) as shown:
        work: Coroutine[Any, Any, datetime | str | None]
        if what in SECRETS:
            work = rotate_secret(SECRETS[what], job, shown)
        else:
            work = rotate_recipient(job, keys, shown, group, destroy=destroy)
        left = _run(work, job)
        if isinstance(left, datetime):
            shown.step(
                "waits", f"entries of audit.index are under it until {left:%Y-%m-%d %H:%M} UTC: run it again then"
            )
        elif left is not None:
            shown.step("waits", f"{left}; run it again")


def show(what: str, job: Job, keys: FileKeys, group: str, *, as_json: bool) -> None:
    """Show where it stands, and change nothing."""
    row = dict(_run(_row(what, job, keys, group), job))
    if as_json:
        json_line(row)
    else:
        table("", list(row), [list(row.values())])


async def _row(what: str, job: Job, keys: FileKeys, group: str) -> Mapping[str, object]:
    from broker.rotation.recipient import described as described_recipient
    from broker.rotation.secrets import count_older, described, read_registry, standing

    registry = await read_registry(job.operator)
    if what not in SECRETS:
        return await described_recipient(job, keys, registry, group)
    row = described(SECRETS[what], standing(SECRETS[what], job.keys, registry))
    return {**row, "records_under_older": await count_older(job, registry)}


def _run(work: Coroutine[Any, Any, _T], job: Job) -> _T:
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise explain(error, job.operator) from error
