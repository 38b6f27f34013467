"""The pure packages know nothing of Kafka or Faust: what they decide can be read, tested and moved without them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "broker"
PURE = ("exchange", "policy", "audit", "identity", "schemas", "season")
FORBIDDEN = (
    "aiokafka",
    "faust",
    "mode",
    "confluent_kafka",
    "broker.kafka",
    "broker.engine",
    "broker.app",
    "broker.cli",
)


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", [p for package in PURE for p in sorted((ROOT / package).rglob("*.py"))], ids=str)
def test_a_pure_module_imports_no_kafka(path: Path) -> None:
    """Neither a client of Kafka nor a layer above."""
    bad = {name for name in imports(path) for wall in FORBIDDEN if name == wall or name.startswith(f"{wall}.")}
    assert not bad


def test_importing_the_exchange_loads_no_kafka_client() -> None:
    """Not even by way of something else."""
    code = (
        "import sys, broker.exchange; print([m for m in ('aiokafka', 'faust', 'confluent_kafka') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_has_more_than_four_hundred_lines() -> None:
    """A module that wants more wants two names; but for the auditor's verifier."""
    most = {ROOT / "audit" / "verify.py": 600}  # one file, so that it runs from a USB stick
    long = {str(p): n for p in ROOT.rglob("*.py") if (n := len(p.read_text("utf-8").splitlines())) > most.get(p, 400)}
    assert long == {}
