"""What a party's system imports: send and receive events, without knowing about sealing or Kafka.

from broker.client import Event, Producer, Profile, Usage, pupil
"""

from broker.client.consumer import Consumer, Gap, Received, Result, Status, StatusConsumer
from broker.client.counting import CountBook
from broker.client.producer import Producer, Sent
from broker.client.profile import Profile
from broker.client.records import (
    AssessmentResult,
    Connection,
    Consent,
    ContactFlags,
    Control,
    Event,
    HomeAddress,
    Identity,
    Licence,
    Order,
    Part,
    Progress,
    ReferenceLevel,
    Roster,
    Subject,
    Usage,
    employee,
    pupil,
    school_year_of,
)
from broker.client.seed import answer_seed
from broker.client.sync import SyncConsumer, SyncProducer

__all__ = [
    "AssessmentResult",
    "Connection",
    "Consent",
    "Consumer",
    "ContactFlags",
    "Control",
    "CountBook",
    "Event",
    "Gap",
    "HomeAddress",
    "Identity",
    "Licence",
    "Order",
    "Part",
    "Producer",
    "Profile",
    "Progress",
    "Received",
    "ReferenceLevel",
    "Result",
    "Roster",
    "Sent",
    "Status",
    "StatusConsumer",
    "Subject",
    "SyncConsumer",
    "SyncProducer",
    "Usage",
    "answer_seed",
    "employee",
    "pupil",
    "school_year_of",
]
