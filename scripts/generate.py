"""Write what is generated: output schemas, and the references of outcome codes and metrics. `--check` only compares.

Run by `make docs` and `make check`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from broker.app import metricpage
from broker.exchange.outcomes import reference
from broker.policy import Policy, Routes
from broker.schemas import Catalogue
from broker.schemas.outputs import file_texts

ROOT = Path(__file__).parent.parent


def generated() -> dict[Path, str]:
    """Every generated file with its text."""
    schemas = file_texts(Catalogue(ROOT / "schemas" / "avro"), Policy.load(), Routes.load())
    files = {ROOT / "schemas" / "avro" / "outputs" / name: text for name, text in schemas.items()}
    files[ROOT / "docs" / "reference" / "outcomes.md"] = reference()
    files[ROOT / "docs" / "reference" / "metrics.md"] = metricpage.reference()
    return files


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    files = generated()
    folder = ROOT / "schemas" / "avro" / "outputs"
    stale = [path for path in folder.glob("*.avsc") if path not in files]
    different = [p for p, text in files.items() if not p.exists() or p.read_text("utf-8") != text]
    if check:
        for path in (*stale, *different):
            sys.stderr.write(f"{path.relative_to(ROOT)} is not what is generated; run: make docs\n")
        return 1 if stale or different else 0
    for path in stale:
        path.unlink()
    for path in different:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
