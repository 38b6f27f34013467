"""Asks whether known vulnerabilities are in what is locked: pip-audit over `requirements/dev.txt`.

A finding fails, unless `requirements/accepted-vulnerabilities.toml` names it with a reason and a last day. Where the
advisory service can not be reached, that is said in one line and nothing fails: `--must-reach` is for a release.

pip-audit alone is not enough: against a mirror without advisories it skips every package and reports "No known
vulnerabilities found". One package is asked about first, so that such a place costs one question and a second or two.
Run by `make audit`, and in CI.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
LOCK: Final = ROOT / "requirements" / "dev.txt"
ACCEPTED: Final = ROOT / "requirements" / "accepted-vulnerabilities.toml"
PROBE: Final = "pip-audit"
PROBE_S: Final = 20
WHOLE_S: Final = 120
SERVICE_TROUBLE: Final = re.compile(r"ConnectionError|ServiceError|Timeout|requests\.exceptions|urllib3\.exceptions")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A finding that was looked at: of which package, why it may stay, and until when."""

    id: str
    package: str
    reason: str
    until: date


def accepted(text: str) -> tuple[Acceptance, ...]:
    """Reads the file of accepted findings.

    Raises:
        ValueError: an entry lacks one of its four parts, or has no real reason.
    """
    found = []
    for entry in tomllib.loads(text).get("accepted", []):
        if set(entry) != {"id", "package", "reason", "until"} or not isinstance(entry["until"], date):
            raise ValueError(f"an entry needs id, package, reason and until (a date): {entry}")
        if len(entry["reason"].split()) < 5:
            raise ValueError(f"{entry['id']}: the reason is no sentence")
        found.append(Acceptance(**entry))
    return tuple(found)


def judge(report: dict[str, Any], reviewed: Iterable[Acceptance], today: date) -> tuple[list[str], list[str]]:
    """What in a report of pip-audit fails, and what is only to be told.

    A package that the service does not know fails too: it is locked, so it was published once; it may have been taken
    down for what it did.
    """
    failing, told = [], []
    reviewed = tuple(reviewed)
    used: set[Acceptance] = set()
    for package in report["dependencies"]:
        name = package["name"]
        findings = package.get("vulns", [{"id": "not-audited"}])
        for finding in findings:
            ids = {finding["id"], *finding.get("aliases", ())}
            entry = next((a for a in reviewed if a.package == name and a.id in ids), None)
            what = f"{name} {package.get('version', '')}".strip() + f": {finding['id']}"
            if mended := ", ".join(finding.get("fix_versions", ())):
                what += f" (mended in {mended})"
            if entry is None:
                failing.append(what)
            elif today > entry.until:
                used.add(entry)
                failing.append(f"{what}, accepted until {entry.until} only")
            else:
                used.add(entry)
                told.append(f"{what}, accepted until {entry.until}: {entry.reason}")
    failing += [
        f"{a.package}: {a.id} is accepted, but not found any more: remove it" for a in reviewed if a not in used
    ]
    return failing, told


def pip_audit(lock: Path, seconds: int) -> tuple[dict[str, Any] | None, str]:
    """The report of pip-audit over a lock, or none and what it said instead."""
    options = "--require-hashes --disable-pip --format json --timeout 5 --progress-spinner off"
    command = (sys.executable, "-m", "pip_audit", "-r", str(lock), *options.split())
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None, f"Timeout: no answer within {seconds} s"
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        return None, done.stderr


def reachable(report: dict[str, Any] | None) -> bool:
    """Whether the answer about one well-known package shows a service that knows packages."""
    return report is not None and all("vulns" in package for package in report["dependencies"])


def one_package(lock: str, name: str) -> str:
    """The lines of one package in a lock."""
    found = re.search(rf"^{re.escape(name)}==.*\n(?:    --hash=.*\n)+", lock, re.MULTILINE)
    if found is None:
        raise ValueError(f"{name} is not in the lock")
    return found[0]


def main() -> int:
    """Ask, judge, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--must-reach", action="store_true", help="fail where the advisory service is not reached")
    must_reach = parser.parse_args().must_reach
    reviewed = accepted(ACCEPTED.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "one.txt"
        probe.write_text(one_package(LOCK.read_text("utf-8"), PROBE), "utf-8")
        report, said = pip_audit(probe, PROBE_S)
    if reachable(report):
        report, said = pip_audit(LOCK, WHOLE_S)
        if report is None and not SERVICE_TROUBLE.search(said):
            sys.stderr.write(f"audit: pip-audit failed:\n{said}")
            return 1
    else:
        report = None
    if report is None:
        sys.stdout.write(
            "audit: NOT DONE. The advisory service can not be reached from here; nothing is known of what is locked.\n"
        )
        return 1 if must_reach else 0
    failing, told = judge(report, reviewed, datetime.now(UTC).date())
    for line in told:
        sys.stdout.write(f"audit: {line}\n")
    for line in failing:
        sys.stderr.write(f"audit: {line}\n")
    sys.stdout.write(f"audit: {len(report['dependencies'])} packages, {len(failing)} to mend, {len(told)} accepted\n")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
