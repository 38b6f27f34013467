"""Settings of what runs for long: from the environment (`BROKER_...`), overridden by the command line."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.engine.config import EngineConfig
from broker.kafka.connection import KafkaConnection


class WorkerSettings(BaseSettings):
    """How a worker runs.

    Attributes:
        connection: connection file; without it `BROKER_KAFKA_...` counts (see `KafkaConnection.from_env`).
        keys: folder with the broker's keys.
        state: folder for the vault's local copy, of this worker alone; what is in it can be made anew.
        group: consumer group and transactional ids; all workers of one exchange have the same.
        http_host, http_port: of /livez, /readyz and /metrics; port 0 switches them off.
        log_level: debug, info, warning or error.
        batch_records, batch_bytes, view_age_s, patience_s: see `EngineConfig`.
    """

    model_config = SettingsConfigDict(env_prefix="BROKER_", hide_input_in_errors=True, extra="ignore")

    connection: Path | None = None
    keys: Path = Path("keys")
    state: Path = Path("state")
    group: str = Field(default="exchange", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    batch_records: int = Field(default=500, ge=1, le=10_000)
    batch_bytes: int = Field(default=512 << 10, ge=1 << 16, le=32 << 20)
    view_age_s: float = Field(default=2.0, gt=0.5, le=5.0)
    patience_s: float = Field(default=120.0, ge=15.0)

    def kafka(self) -> KafkaConnection:
        """How to connect.

        Raises:
            ConfigError: the file, or the environment, is incomplete or contradicts itself.
        """
        return KafkaConnection.from_env() if self.connection is None else KafkaConnection.from_file(self.connection)

    def engine(self) -> EngineConfig:
        """The engine's part."""
        return EngineConfig(
            group=self.group,
            batch_records=self.batch_records,
            batch_bytes=self.batch_bytes,
            view_age_s=self.view_age_s,
            patience_s=self.patience_s,
        )
