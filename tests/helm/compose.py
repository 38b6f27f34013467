"""The compose file, as the tests read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TREE = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((TREE / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
HOME = "/var/lib/eck-broker"
