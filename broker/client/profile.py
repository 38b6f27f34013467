"""A party's profile: a folder with its connection and its keys, made by `broker party add`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broker.errors import ConfigError
from broker.kafka.connection import KafkaConnection
from broker.keys import FileKeys, KeyProvider

CONNECTION_FILE = "connection.json"
KEYS_FOLDER = "keys"
RECORD_KEY_SECRET = "record-key"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a party's software needs to take part.

    Args:
        party: its id; also its Kafka user.
        connection: how to reach Kafka.
        keys: its private recipient keys, and the secret `record-key` for its record keys.
        folder: where the profile stands, and what the party counted; None: nowhere.
    """

    party: str
    connection: KafkaConnection
    keys: KeyProvider
    folder: Path | None = None

    @classmethod
    def load(cls, folder: Path | str) -> Profile:
        """Read a profile folder.

        Raises:
            ConfigError: `profile.missing`, or what is wrong with a file in it.
        """
        folder = Path(folder)
        path = folder / CONNECTION_FILE
        if not path.exists():
            raise ConfigError(
                f"{folder} is no profile: it has no {CONNECTION_FILE}; make one with `broker party add`",
                code="profile.missing",
            )
        connection = KafkaConnection.from_file(path)
        if not connection.username:
            raise ConfigError(f"{path} names no user, so the party is not known", code="profile.invalid")
        return cls(connection.username, connection, FileKeys(folder / KEYS_FOLDER), folder)
