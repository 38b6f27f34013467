"""All that is ever made of the audit: signed logs, a store with persons, answers, exports, receipts, Logboek lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.audit import export
from broker.audit.indexing import index_log
from broker.audit.ldv import line_of, violations
from broker.audit.leaf import is_decision
from broker.audit.log.directory import LogDirectory
from broker.audit.otlp import request_of
from broker.audit.query import Query
from broker.audit.signed import SignedLog, folders, keys_beside_logs
from broker.audit.store import Store, Wanted
from broker.auditlog.indexer import read_people
from broker.auditserve.client import Service
from broker.auditserve.rights import Question
from broker.client.receipts import Evidence
from broker.demo import auditlog, questions
from broker.demo.stage import Stage
from broker.errors import AccessDenied
from broker.identity.vault import SchoolKeys
from tests.e2e.watch import PATIENCE_SECONDS, raw

FOLDER = "made-of-the-audit"
RECEIPTS = 100


@dataclass(frozen=True)
class Made:
    """How much there is, so that a test sees that it looked at something.

    Args:
        rows: decisions that were found and exported. persons: rows that were found by a person.
        receipts: files. lines: of the Logboek.
    """

    rows: int
    persons: int
    receipts: int
    lines: int


async def make_all(scene: Stage, people: Iterable[dict[str, Any]], delivered: Iterable[Evidence]) -> Made:
    """Make it in a folder of the stage's home, by the processes and the code that operators and auditors use.

    Args:
        people: questions about pupils, as the audit service reads them; `board` is who asks.
        delivered: of which receipts are made.
    """
    folder = scene.home / FOLDER
    folder.mkdir()
    auditlog.start(scene)
    leaves = [r.value async for r in raw(scene.connections["auditor"], lambda topic: topic == "audit.events")]
    await asyncio.to_thread(auditlog.until_signed, scene.home, len(leaves), 1)
    address = await asyncio.to_thread(questions.start, scene)
    lines = [line_of(leaf) for leaf in leaves if is_decision(leaf) and not violations(leaf)]
    (folder / "lines.otlp").write_bytes(request_of(lines))
    with Store(folder / "audit.db") as store:
        known = keys_beside_logs(scene.home / auditlog.LOGS)
        for one in folders(scene.home / auditlog.LOGS):
            log = SignedLog.open(LogDirectory(one), known)
            assert log is not None
            index_log(store, log)
        schools, lost = SchoolKeys(scene.keys.secret("school-keys")), list[str]()
        await read_people(store, scene.connections["auditor"], schools, lost.append)
        assert lost == []
        query = Query(store, scene.home / auditlog.LOGS, known)
        rows, receipts = _exported(query, folder), 0
        for evidence in list(delivered)[:RECEIPTS]:
            data = query.receipt(evidence.event, evidence.receiver, evidence.salt, evidence.record)
            (folder / f"{receipts}.tlog-proof").write_bytes(data)
            receipts += 1
    persons = 0
    for asked in people:
        certificate, key = scene.home / questions.CERTIFICATES / f"party-{asked['board']}.pem", "key"
        service = Service.of(
            address, certificate, certificate.with_suffix(f".{key}"), certificate.with_name("ca.pem"), known
        )
        persons += await _rows(service, {name: value for name, value in asked.items() if name != "board"}, folder)
    return Made(rows, persons, receipts, len(lines))


def _exported(query: Query, folder: Path) -> int:
    """Every row in each form, and the story of every event."""
    found = query.find(Wanted(most=100_000))
    for name, write in (("rows.csv", export.write_csv), ("rows.jsonl", export.write_json)):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            write(found, stream)
    export.write_parquet(found, folder / "rows.parquet")
    with (folder / "stories.txt").open("w", encoding="utf-8") as stream:
        for event in dict.fromkeys(one.leaf.event for one in found):
            stream.write("\n".join(query.explain(event)) + "\n")
    return len(found)


async def _rows(service: Service, asked: dict[str, Any], folder: Path) -> int:
    """Ask until the indexer has come to this pupil."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = await service.ask(Question.PEOPLE, asked)
        except AccessDenied:  # the vault's copy may be on its way
            assert time.monotonic() < deadline
        else:
            if answer.found:
                break
            assert time.monotonic() < deadline
        await asyncio.sleep(1.0)
    with (folder / "person.csv").open("a", encoding="utf-8", newline="") as stream:
        export.write_csv(answer.found, stream)
    return len(answer.found)
