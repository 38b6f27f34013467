"""Where the files that come with the broker are: schemas, topics, policies, connectors, examples.

They live at the top of the source tree, where a stranger looks for them; in an installed wheel they are
inside the package (`tool.hatch.build.targets.wheel.sources` in `pyproject.toml`). Only this module
knows the difference.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from broker.errors import ConfigError

Kind = Literal["schemas", "topics", "policies", "connectors", "examples"]


def data_path(kind: Kind) -> Path:
    """Returns the folder with this kind of file.

    Raises:
        ConfigError: neither a source checkout nor an installed package has it.
    """
    package = Path(str(files("broker")))
    checkout = package.parent
    installed = package / "_data" / kind
    # A stray top-level "schemas" in site-packages must not be taken for ours, hence the look at pyproject.toml.
    if (checkout / "pyproject.toml").is_file() and (checkout / kind).is_dir():
        return checkout / kind
    if installed.is_dir():
        return installed
    raise ConfigError(
        f"The folder {kind!r} is neither in {checkout} nor in {installed.parent}. "
        "The installation is incomplete: install the package again.",
        code="config.data_missing",
    )
