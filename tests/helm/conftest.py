"""Fixtures: the chart as clusters see it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.helm.rendering import CHART


@pytest.fixture
def every_api(tmp_path: Path) -> Path:
    """The chart as a cluster with KEDA and the Prometheus operator sees it.

    Rendering without a cluster knows the built-in APIs only, so the question itself is answered here.
    """
    copy = Path(shutil.copytree(CHART, tmp_path / "eck-broker"))
    for template in (copy / "templates").iterdir():
        text = template.read_text(encoding="utf-8")
        template.write_text(re.sub(r'\(\.Capabilities\.APIVersions\.Has "[^"]+"\)', "true", text), encoding="utf-8")
    return copy
