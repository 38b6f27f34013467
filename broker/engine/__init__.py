"""The machine: lanes that move a partition forward exactly once, and the views they look at.

`lane` is the heart; `service` feeds lanes from one consumer; `topicview` and `views` follow the registry, the vault
and the lanes' own state; `transaction` is how a batch is written. It runs any function of the form `Process` and
knows nothing of keys or of what a decision means. Why each thing is as it is: docs/explanation/lanes.md, ADR 1.
"""

from broker.engine.clients import Clients, KafkaClients
from broker.engine.config import EngineConfig
from broker.engine.lane import Lane
from broker.engine.observe import BatchReport, Observer
from broker.engine.service import DataPlane
from broker.engine.takeover import Process
from broker.engine.topics import TopicCounts, topic_identity
from broker.engine.topicview import CompactedTail, TopicTail, read_to_end
from broker.engine.views import RegistryView, VaultView

__all__ = [
    "BatchReport",
    "Clients",
    "CompactedTail",
    "DataPlane",
    "EngineConfig",
    "KafkaClients",
    "Lane",
    "Observer",
    "Process",
    "RegistryView",
    "TopicCounts",
    "TopicTail",
    "VaultView",
    "read_to_end",
    "topic_identity",
]
