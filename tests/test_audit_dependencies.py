"""`make audit`: known vulnerabilities fail, unless somebody looked; a service that knows nothing is no clean bill."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from pip_audit._format import JsonFormat
from pip_audit._service.interface import ResolvedDependency, SkippedDependency, VulnerabilityResult

from scripts.audit_dependencies import (
    ACCEPTED,
    LOCK,
    PROBE,
    Acceptance,
    accepted,
    judge,
    one_package,
    pip_audit,
    reachable,
)

TODAY = date(2026, 11, 30)
ENTRY = Acceptance("CVE-2026-0001", "yarl", "we never parse such an address", date(2026, 12, 31))


def report(*vulnerable: str, skipped: tuple[str, ...] = ()) -> dict[str, Any]:
    """What pip-audit itself writes for a lock of which some packages have a finding and some are not known."""
    found = VulnerabilityResult(
        id="PYSEC-2026-7",
        aliases={"CVE-2026-0001"},
        description="something",
        fix_versions=[Version("2.0")],
        published=datetime(2026, 11, 1, tzinfo=UTC),
    )
    result: dict[Any, list[VulnerabilityResult]] = {
        ResolvedDependency(name, Version("1.0")): [found] if name in vulnerable else []
        for name in ("aiohttp", "yarl")
        if name not in skipped
    }
    result |= {SkippedDependency(name, "not found"): [] for name in skipped}
    return dict(json.loads(JsonFormat(output_desc=True, output_aliases=True).format(result, [])))


def test_nothing_found_passes() -> None:
    """Every package was looked at, and none has a finding."""
    assert judge(report(), (), TODAY) == ([], [])


def test_a_finding_fails_and_says_what_mends_it() -> None:
    """By package, version and id."""
    assert judge(report("yarl"), (), TODAY) == (["yarl 1.0: PYSEC-2026-7 (mended in 2.0)"], [])


def test_a_finding_that_was_looked_at_passes_until_its_last_day() -> None:
    """By its id or an alias; of this package only; with the reason in the output."""
    failing, told = judge(report("yarl"), (ENTRY,), ENTRY.until)
    assert failing == []
    assert ENTRY.reason in told[0]
    assert "until 2026-12-31 only" in judge(report("yarl"), (ENTRY,), date(2027, 1, 1))[0][0]
    assert len(judge(report("yarl", "aiohttp"), (ENTRY,), TODAY)[0]) == 1


def test_an_acceptance_that_nothing_needs_any_more_fails() -> None:
    """Else it would cover the next finding of that name."""
    assert "remove it" in judge(report(), (ENTRY,), TODAY)[0][0]


def test_a_package_that_the_service_does_not_know_fails() -> None:
    """pip-audit passes over it and reports that nothing was found."""
    assert judge(report(skipped=("yarl",)), (), TODAY)[0] == ["yarl: not-audited"]


def test_a_service_that_knows_no_package_counts_as_not_reached() -> None:
    """As a mirror without advisories answers: skipped, exit code 0."""
    assert not reachable(report(skipped=("aiohttp", "yarl")))
    assert not reachable(None)
    assert reachable(report("yarl"))


def test_what_pip_audit_can_not_read_is_no_report(tmp_path: Path) -> None:
    """The real program, over a lock without a hash: it ends before it asks anybody."""
    lock = tmp_path / "lock.txt"
    lock.write_text("yarl==1.25.1\n", "utf-8")
    found, said = pip_audit(lock, 60)
    assert found is None
    assert "hash" in said


def test_the_first_question_is_about_one_locked_package() -> None:
    """With its hashes, so that pip-audit takes it as it takes the lock."""
    text = one_package(LOCK.read_text("utf-8"), PROBE)
    assert text.startswith(f"{PROBE}==")
    assert text.count("==") == 1
    assert "--hash=sha256:" in text


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param('id = "A"\npackage = "yarl"\nuntil = 2026-12-31', id="no reason"),
        pytest.param('id = "A"\npackage = "yarl"\nreason = "not relevant"\nuntil = 2026-12-31', id="no sentence"),
        pytest.param('id = "A"\npackage = "yarl"\nreason = "a b c d e f"\nuntil = "later"', id="no day"),
    ],
)
def test_an_acceptance_needs_a_reason_and_a_last_day(entry: str) -> None:
    """Three ways to write down nothing."""
    with pytest.raises(ValueError, match="reason"):
        accepted(f"[[accepted]]\n{entry}\n")


def test_the_file_of_accepted_findings_can_be_read() -> None:
    """As it is now."""
    assert all(entry.reason for entry in accepted(ACCEPTED.read_text("utf-8")))
