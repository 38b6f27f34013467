"""A leaf beside a bare json.dumps and three HMACs, and what the audit is of a whole decision.

Leaves: a batch of usage events is decided by the exchange; what it called for each leaf is done again, alone: ids,
token, salts, both commitments, and the leaf. The bare job makes JSON of the same content and three HMAC-SHA256 over the
same bytes, with the standard library, whatever a broker would do to have *some* record.

The share: whole batches, with and without the audit. Without it the exchange decides, seals and tells the sender, but
writes no leaf and no entry of the index, has no ids and commitments, counts no window and hashes no flow. Taking it out
by hand is more honest than a profiler, which makes many small calls look dearer than they are.

CPU time of this process; both halves in turn, batch by batch; medians of the rounds' ratios.
"""

from __future__ import annotations

import gc
import hmac
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from bench.exchange import BATCH, PUPILS, _eck_id, _event, _inputs
from broker.audit.leaf import Commitments, Ids, commitment
from broker.exchange import InputRecord, decide, journal, pipeline
from broker.exchange.model import AUDIT_EVENTS
from broker.exchange.windows import Window
from tests.exchange.world import DELTA, PORTAL, SIS, World, enrolment, make_world

WARM_UP: Final = 2

Call = tuple[tuple[Any, ...], bytes]  # arguments of `audit_leaf`, and the value that was delivered


def run(seconds: float = 20.0, batch: int = BATCH) -> dict[str, Any]:
    """Measure for some seconds; microseconds of CPU per leaf and per decision."""
    world = make_world()
    for number in range(PUPILS):
        world.send(SIS, enrolment(_eck_id(number), f"L{number:04}"))
    inputs = _inputs(world, [_event(number % PUPILS) for number in range(batch)])
    calls = _calls(world, inputs)
    contents = [json.loads(pipeline.audit_leaf(*arguments)) for arguments, _ in calls]
    us: dict[str, list[float]] = {name: [] for name in ("ids", "alone", "leaf", "bare", "with", "without")}
    end = time.monotonic() + seconds
    while len(us["leaf"]) <= WARM_UP or time.monotonic() < end:
        gc.collect()
        us["ids"].append(_cpu_us(batch, lambda: _ids(calls)))
        us["alone"].append(_cpu_us(batch, partial(_alone, _prepared(calls))))
        us["leaf"].append(_cpu_us(batch, lambda: _leaves(calls)))
        us["bare"].append(_cpu_us(batch, lambda: _bare(contents, calls)))
        gc.collect()
        us["with"].append(_cpu_us(batch, lambda: world.step(DELTA, inputs)))
        gc.collect()
        with without_audit():
            us["without"].append(_cpu_us(batch, lambda: world.step(DELTA, inputs)))
    us = {name: measured[WARM_UP:] for name, measured in us.items()}
    shares = [1 - without / whole for whole, without in zip(us["with"], us["without"], strict=True)]
    return {
        "rounds": len(shares),
        "leaf_bytes": statistics.mean(len(pipeline.audit_leaf(*arguments)) for arguments, _ in calls),
        **{f"{name}_us": statistics.median(measured) for name, measured in us.items()},
        **{f"{name}_least_us": min(measured) for name, measured in us.items()},
        "ratio": statistics.median(ours / bare for ours, bare in zip(us["leaf"], us["bare"], strict=True)),
        "share": statistics.median(shares),
        "share_of_least": 1 - min(us["without"]) / min(us["with"]),
        "share_quartiles": statistics.quantiles(shares, n=4) if len(shares) > 1 else shares,
        "measured_us": us,
    }


def _calls(world: World, inputs: list[InputRecord]) -> list[Call]:
    """What the exchange calls for the leaves of a batch."""
    arguments = list[tuple[Any, ...]]()

    def audit_leaf(*given: Any) -> bytes:
        arguments.append(given)
        return decide.audit_leaf(*given)

    with patch.object(pipeline, "audit_leaf", audit_leaf):
        step = world.step(DELTA, inputs)
    values = [out.value or b"" for out in step.outgoing if out.topic == f"out.{PORTAL}.usage"]
    assert len(arguments) == sum(out.topic == AUDIT_EVENTS for out in step.outgoing)
    return list(zip(arguments, values, strict=True))


def _ids(calls: list[Call]) -> None:
    for (account, decision, *_), _ in calls:
        decide.decision_ids(account, decision.receiver)


def _leaves(calls: list[Call]) -> None:
    """As `Journal.secrets`, `Journal.output` and `audit_leaf` do."""
    for (account, decision, registry, ids, _, now_ms, target, delivery), value in calls:
        secrets = decide.commitments(account, ids)
        said = {**delivery, "value": commitment(secrets.salt("out"), value)}
        decide.audit_leaf(account, decision, registry, ids, secrets, now_ms, target, said)


def _prepared(calls: list[Call]) -> list[tuple[Any, ...]]:
    """The same with what the record that goes out has of its own, its salt and its commitment, made before."""
    prepared = list[tuple[Any, ...]]()
    for (account, decision, registry, ids, _, now_ms, target, delivery), value in calls:
        secrets = decide.commitments(account, ids)
        said = {**delivery, "value": commitment(secrets.salt("out"), value)}
        prepared.append((account, decision, registry, ids, secrets, now_ms, target, said))
    return prepared


def _alone(prepared: list[tuple[Any, ...]]) -> None:
    for arguments in prepared:
        decide.audit_leaf(*arguments)


def _bare(contents: list[dict[str, Any]], calls: list[Call]) -> None:
    for content, ((account, _, _, ids, *_), value) in zip(contents, calls, strict=True):
        key = account.person.subject_key
        hmac.digest(key, ids.trace + ids.span, "sha256")
        hmac.digest(key, account.record.value, "sha256")
        hmac.digest(key, value, "sha256")
        json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


_NO_IDS: Final = Ids(bytes(16), bytes(8))
_NO_SECRETS: Final = Commitments(bytes(32), _NO_IDS)


@contextmanager
def without_audit() -> Iterator[None]:
    """The exchange as it would be without an audit trail."""
    _NO_SECRETS.salt("out")  # which is then remembered
    nothing: dict[tuple[Any, str], Callable[..., Any]] = {
        (pipeline, "audit_leaf"): lambda *_: b"",
        (journal.Journal, "audit"): lambda self, _, decision, __: self.decisions.append(decision),
        (journal.Journal, "index"): lambda *_: None,
        (journal.Journal, "secrets"): lambda *_: (_NO_IDS, _NO_SECRETS),
        (journal.Journal, "end_window"): lambda _: None,
        (journal, "commitment"): lambda *_: "",
        (journal, "next_root"): lambda root, *_: root,
        (Window, "delivered"): lambda *_: None,
    }
    with ExitStack() as stack:
        for (where, name), instead in nothing.items():
            stack.enter_context(patch.object(where, name, instead))
        yield


def _cpu_us(batch: int, work: Callable[[], object]) -> float:
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / batch / 1000


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    return [
        ("bytes of a leaf", f"{r['leaf_bytes']:,.0f}"),
        (f"leaf: token, what came in, JSON (median of {r['rounds']} rounds; least)",
         f"{r['alone_us']:.1f} us; {r['alone_least_us']:.1f} us"),
        ("  with salt and commitment of what goes out", f"{r['leaf_us']:.1f} us; {r['leaf_least_us']:.1f} us"),
        ("  trace and span", f"{r['ids_us']:.1f} us; {r['ids_least_us']:.1f} us"),
        ("json.dumps and 3 HMAC", f"{r['bare_us']:.1f} us; {r['bare_least_us']:.1f} us"),
        ("  ratio, median of the rounds", f"{r['ratio']:.2f}"),
        ("decision with audit, without", f"{r['with_us']:.0f} us, {r['without_us']:.0f} us"),
        ("  the audit's share, median of the rounds", f"{r['share']:.1%}"),
    ]  # fmt: skip
