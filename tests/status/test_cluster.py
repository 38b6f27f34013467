"""How the workers' group is asked for, without Kafka: what it says one time after the other."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from broker.kafka.connection import KafkaConnection
from broker.status import Group
from broker.status import cluster as module
from broker.status.cluster import ClusterLook

STABLE = Group("STABLE", {"a": 2})
ANEW = Group("PREPARING_REBALANCING", {"a": 0})


class Scripted(ClusterLook):
    """Is told these answers in their order, the last one for ever."""

    def __init__(self, *answers: Group | int) -> None:
        super().__init__(KafkaConnection("127.0.0.1:1", insecure_plaintext=True), "exchange")
        self.answers = list(answers)

    def _described(self) -> Group:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits here."""
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    monkeypatch.setattr(module, "SETTLE_S", 0.05)


def test_a_group_that_comes_together_anew_is_asked_again() -> None:
    """A rolling update is no emergency: its lanes have a worker again within moments."""
    assert Scripted(ANEW, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, STABLE)._members() == STABLE


def test_a_group_that_never_comes_to_rest_is_shown_as_it_is() -> None:
    """Then its lanes stand, and that is found."""
    assert Scripted(ANEW)._members() == ANEW


def test_what_a_login_may_not_see_is_hidden_and_what_kafka_does_not_tell_is_not() -> None:
    """A coordinator that is away must not pass for a right that is not there."""
    assert Scripted(KafkaError.GROUP_AUTHORIZATION_FAILED)._members() is None
    with pytest.raises(KafkaException):
        Scripted(KafkaError.COORDINATOR_NOT_AVAILABLE)._members()
