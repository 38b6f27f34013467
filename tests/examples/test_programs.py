"""When the tests of the example clients are skipped: where nobody answers, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.programs import fetch

OFFLINE = {
    "maven": "Could not transfer artifact a:b:jar:1 from/to central (https://there.invalid): Name or service not known",
    "maven-o": "Cannot access central in offline mode and the artifact a:b:jar:1 has not been downloaded from it before",
    "npm": "npm error code ENOTFOUND",
    "npm-offline": "npm error code ENOTCACHED",
    "go": "dial tcp: lookup there.invalid: no such host",
}
WRONG = {
    "maven-sum": "Could not transfer artifact a:b:jar:1 from/to central (https://there.invalid): Checksum validation failed",
    "maven-none": "Could not find artifact a:b:jar:1 in central (https://there.invalid)",
    "maven-java": "COMPILATION ERROR",
    "npm-sum": "npm error code EINTEGRITY",
    "npm-lock": "npm error `npm ci` can only install packages when your package.json and package-lock.json are in sync",
    "go-sum": "verifying a@v1: checksum mismatch",
}


def say(folder: Path, text: str) -> None:
    """Runs what says this and fails."""
    fetch(folder, "sh", "-c", 'echo "$1" >&2; exit 1', "sh", text)


@pytest.mark.parametrize("tool", OFFLINE)
def test_who_is_offline_skips_and_says_so(tool: str, tmp_path: Path) -> None:
    """With the first line of what the tool said."""
    with pytest.raises(pytest.skip.Exception, match="can not be fetched: "):
        say(tmp_path, OFFLINE[tool])


@pytest.mark.parametrize("tool", WRONG)
def test_what_is_wrong_is_no_skip(tool: str, tmp_path: Path) -> None:
    """A wrong checksum, a version that does not exist, code that does not compile: the test fails."""
    with pytest.raises((AssertionError, pytest.skip.Exception)) as caught:
        say(tmp_path, WRONG[tool])
    assert caught.type is AssertionError
