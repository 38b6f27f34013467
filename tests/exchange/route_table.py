"""The route table as its file has it, read without the package's own reader."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from typing import Any, NamedTuple

import yaml

from broker.data import data_path


class Way(NamedTuple):
    """A row of the route table as the file has it, for one sender, receiver and process."""

    process: str
    connection: str
    subject: str
    closing: dict[str, Any] | None


Table = dict[tuple[str, str, str, str], list[Way]]


def table() -> Table:
    """The file, read without the package's own reader: (family, kind, sender, receiver) -> ways, in the file's order."""
    found: Table = defaultdict(list)
    for row in yaml.safe_load((data_path("policies") / "routes.yaml").read_text("utf-8"))["routes"]:
        several = (row[name] for name in ("process", "sender_role", "receiver_role"))
        lists = [value if isinstance(value, list) else [value] for value in several]
        for process, sender, receiver, kind in product(*lists, row["kinds"]):
            way = Way(process, row["connection"], row.get("subject", "optional"), row.get("closing"))
            found[row["family"], kind, sender, receiver].append(way)
    return found


TABLE = table()


def between_parties() -> list[tuple[str, str, str, str]]:
    """The cells that go from party to party, connection events aside."""
    return [cell for cell in TABLE if cell[0] not in ("identity", "connection")]
