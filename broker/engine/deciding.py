"""Running the pure function on one look at the vault."""

from __future__ import annotations

import time

from broker.engine.blame import Blame, Trial
from broker.engine.overlay import VaultOverlay
from broker.engine.takeover import LaneHost
from broker.exchange.gap import tell_gap
from broker.exchange.model import Step, Views
from broker.exchange.setaside import first_due
from broker.exchange.state import LaneState


def run_pure(host: LaneHost, blame: Blame, state: LaneState, trial: Trial, views: Views, next_offset: int) -> Step:
    """Decide over a batch, or set aside what was found guilty. What fails here is the batch's own, or a bug."""
    now_ms = time.time_ns() // 1_000_000
    if trial.gap is not None:
        return tell_gap(state, trial.gap, views, now_ms)
    blame.due = None
    with blame.watching():
        if trial.guilty is not None and host.set_aside is not None:
            return host.set_aside(state, trial.guilty, views, now_ms, next_offset, brief=blame.brief)
        if trial.released == 1 and not trial.records:
            blame.due = first_due(state, views, now_ms)
        return host.process(state, trial.records, views, now_ms, next_offset)


def who_came(host: LaneHost, overlay: VaultOverlay, step: Step) -> tuple[list[bytes], set[bytes]]:
    """Of the vault keys that a batch parked events for: which are known by now, and all of them."""
    waits_for = {event.waits_for for event in step.delta.parked.values() if event is not None}
    if not waits_for:
        return [], waits_for
    vault = host.views.vault
    overlay.prune(vault.read)  # else it may hide what another lane wrote since
    with vault.reading() as reader:
        now = overlay.over(reader)
        return [key for key in waits_for if now.get(key) is not None], waits_for
