"""Everything about the Kafka cluster itself: connecting, an embedded one, topics, users and rights.

    connection   the one object that carries all connection settings
    embedded     a real, secured Apache Kafka on this machine, without Java or containers
    topics       topic specifications from `topics/*.yaml`
    access       who may do what: ACLs by role
    admin        the difference between what is wanted and what is there, and how to close it

Records are read and written elsewhere (`broker.engine`, `broker.client`).
"""

from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check, explain

__all__ = ["KafkaConnection", "check", "explain"]
