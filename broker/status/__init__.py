"""What an installation looks like from Kafka alone, and what of it needs a person: behind `broker status`.

    look (cluster, records) -> Seen -> judge -> findings, in the words of the alert rules

What a login may not see is None, and nothing is found about it then: it is not taken for well.
"""

from broker.status.judge import Finding, findings
from broker.status.look import Watch
from broker.status.seen import Cluster, Flow, Group, Log, Registered, Seen, Told

__all__ = ["Cluster", "Finding", "Flow", "Group", "Log", "Registered", "Seen", "Told", "Watch", "findings"]
