"""The hostile run: what the broker promises (P1, P2), held against faults on a real Kafka; `make chaos`.

`checker` judges a history and knows nothing of the broker's code; `docs/guarantees.md` says what it showed.
"""
