"""What of it needs a person, in the words of the alert rules (`helm/eck-broker/files/alerts.yaml`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from broker.status.seen import EVIDENCE_S, Cluster, Log, Seen

MOST_OVERDUE: Final = 100
# Ends of transactions are offsets too. Where nobody may look what stands behind the last leaf, so many of them are let
# pass for each lane, which leaves two at a take-over.
ENDS: Final = 20
MOST_QUARANTINED: Final = 50

#: What can be told from Kafka alone: severity and sentence, worst first. All but the first two are alerts too.
WORDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    "KafkaAway": ("critical", "Kafka can not be asked."),
    "KafkaWeak": ("warning", "Kafka lacks a broker, a leader or a copy."),
    "NoWorkerReady": ("critical", "No worker serves."),
    "RegistryInvalid": ("critical", "The newest registry can not be used."),
    "InputLost": ("critical", "Input was deleted before it was decided."),
    "EvidenceLate": ("critical", "Decisions are not signed into the log."),
    "LaneStands": ("warning", "A lane has not taken over."),
    "LagStays": ("warning", "Input waits and does not get less."),
    "QuarantineJump": ("warning", "Many events were set aside."),
    "IncidentSeen": ("warning", "An incident was written to the audit."),
})  # fmt: skip
ONLY_HERE: Final = ("KafkaAway", "KafkaWeak")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that needs a person.

    Args:
        alert: name of the alert rule and of its runbook. detail: what exactly; no person.
    """

    alert: str
    detail: str

    @property
    def severity(self) -> str:
        """`critical`: at once; `warning`: on the same working day."""
        return WORDS[self.alert][0]

    @property
    def sentence(self) -> str:
        """What is so."""
        return WORDS[self.alert][1]


def findings(seen: Seen) -> list[Finding]:
    """What needs a person, worst first; empty: nothing of what this login may see."""
    order = list(WORDS)
    return sorted(_all(seen), key=lambda finding: order.index(finding.alert))


def _all(seen: Seen) -> Iterator[Finding]:
    if seen.away is not None:
        yield Finding("KafkaAway", seen.away)
    if seen.cluster is not None:
        yield from _of_cluster(seen.cluster)
    if seen.registry is not None and seen.registry.problem is not None:
        yield Finding("RegistryInvalid", seen.registry.problem)
    lanes = sum(flow.partitions for flow in ((seen.cluster and seen.cluster.flows) or {}).values())
    for name, log in (seen.logs or {}).items():
        if _late(log, lanes):
            signed = "never signed" if log.age_s is None else f"signed {log.age_s / 60:.0f} minutes ago"
            yield Finding("EvidenceLate", f"{name}: {log.unsigned} records behind, {signed}")
    lately = {party: sum(codes.values()) for party, codes in (seen.quarantined_lately or {}).items()}
    if sum(lately.values()) > MOST_QUARANTINED:
        worst = max(lately, key=lambda party: lately[party])
        yield Finding("QuarantineJump", f"{sum(lately.values())} in half an hour, most of {worst}")
    if seen.told is not None:
        for topic, records in seen.told.lost.items():
            yield Finding("InputLost", f"{topic}: {records} records in 24 hours")
        if seen.told.incidents:
            codes = ", ".join(f"{code} ({count})" for code, count in seen.told.incidents.items())
            yield Finding("IncidentSeen", f"in 24 hours: {codes}")


def _late(log: Log, lanes: int) -> bool:
    if log.waits_s is not None:
        return log.waits_s > EVIDENCE_S
    return log.overdue > ENDS * max(1, lanes)


def _of_cluster(cluster: Cluster) -> Iterator[Finding]:
    if cluster.brokers < cluster.expected or cluster.leaderless or cluster.behind:
        some = ", ".join(cluster.leaderless[:3])
        detail = f"{cluster.brokers} of {cluster.expected} brokers; {cluster.behind} partitions lack a copy"
        yield Finding("KafkaWeak", f"{detail}; without leader: {len(cluster.leaderless)}{some and f' ({some})'}")
    flows = cluster.flows or {}
    if cluster.group is not None and flows:
        lanes, partitions = sum(cluster.group.lanes.values()), sum(flow.partitions for flow in flows.values())
        if not cluster.group.lanes:
            yield Finding("NoWorkerReady", f"nobody is in the workers' group ({cluster.group.state.lower()})")
        elif lanes < partitions:
            state = cluster.group.state.lower()
            yield Finding(
                "LaneStands", f"{partitions - lanes} of {partitions} input partitions have no worker ({state})"
            )
    for party, flow in flows.items():
        if flow.overdue > MOST_OVERDUE:
            yield Finding("LagStays", f"{party}: {flow.overdue} records wait for more than 15 minutes")
