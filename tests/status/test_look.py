"""What is made of the records of a look; without Kafka."""

from __future__ import annotations

from broker.demo.stage import example_document
from broker.registry import Registry, records_of
from broker.registry.registry import POLICY_KEY
from broker.status.look import _Record, _registered


def test_the_registry_is_as_workers_have_it() -> None:
    """An entry that can not be read grants nothing, and calls nobody; policy or routes that can not stop everything."""
    records = records_of(example_document())
    good = {key.encode(): _Record(1.0, key.encode(), value) for key, value in records.items()}
    known = _registered(good)
    assert known.problem is None
    assert known.version == Registry.from_records(records).version
    odd = {**good, b"school/99XX": _Record(1.0, b"school/99XX", b"{"), b"connection/a/b": _Record(1.0, b"", b"{")}
    assert _registered(odd).problem is None
    assert _registered(odd).schools == known.schools > 0
    policy = POLICY_KEY.encode()
    assert _registered({**good, policy: _Record(1.0, policy, b"{")}).problem
