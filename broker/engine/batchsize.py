"""How many records a lane takes into its next batch: so many that deciding over them takes a moment only, since neither
views, nor heartbeats, nor other lanes move meanwhile.
"""

from __future__ import annotations

from broker.engine.config import EngineConfig

GROWTH = 50  # a batch in order makes room for this part of the most


class BatchSize:
    """See the module.

    Attributes:
        most: records of the next batch.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self.most = config.batch_records

    def failed(self) -> None:
        """A batch failed: what is too much for its time-out must not come back for ever."""
        self.most = max(1, self.most // 2)

    def committed(self, records: int, decision_s: float) -> None:
        """A batch of so many records was committed; deciding over it took so long."""
        aim = self._config.decision_s
        if decision_s > aim:
            self.most = max(1, int(records * aim / decision_s))
        else:
            self.most = min(self._config.batch_records, self.most + max(1, self._config.batch_records // GROWTH))
