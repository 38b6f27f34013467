"""The named configuration of each administration (SIS): which standards, which deviations, and on what evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from broker.connectors.structure import StandardName
from broker.data import data_path
from broker.errors import ConfigError
from broker.policy.document import Written, problems_of, read_yaml, refuse

__all__ = ["Evidence", "LocalIds", "Product", "products"]

Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Version = Annotated[str, Field(pattern=r"^[0-9]{1,3}\.[0-9]{1,3}$")]
Deviation = Literal["element-order", "empty-elements"]  # those that broker.connectors.records can do without
_TOLERABLE: Final = frozenset(get_args(Deviation))


class Evidence(Written):
    """What is known of a product's files, and from where."""

    says: Text
    source: Text


class LocalIds(Written):
    """The form of a product's keys (LAS keys).

    Args:
        form: a regular expression; None: not published.
        known: what is known of it, in a sentence.
    """

    form: Text | None
    known: Text

    @field_validator("form")
    @classmethod
    def _is_a_regular_expression(cls, form: str | None) -> str | None:
        try:
            re.compile(form or "")
        except re.error:
            raise ValueError("is no regular expression") from None
        return form


class Product(Written):
    """How the files of one administration are read.

    Args:
        id: its name on the command line.
        name, maker: as people know them.
        reads: standard -> versions that a file may name.
        local_ids: the form of its keys.
        tolerates: deviations from the standard that spoil nothing.
        notice: what whoever reads such a file should know.
        dialect: what is known of its files, in a sentence or two.
        evidence: the sources of that.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    name: Text
    maker: Text
    reads: Annotated[dict[StandardName, Annotated[tuple[Version, ...], Field(min_length=1)]], Field(min_length=1)]
    local_ids: LocalIds
    tolerates: frozenset[Deviation] = frozenset()
    notice: Text | None = None
    dialect: Text
    evidence: Annotated[tuple[Evidence, ...], Field(min_length=1)]

    @property
    def local_id_form(self) -> re.Pattern[str] | None:
        """The declared form of its keys."""
        return re.compile(self.local_ids.form) if self.local_ids.form is not None else None

    def refusal(self, deviation: str | None) -> str:
        """What to say, and to do, of a breach of the standard that this configuration does not tolerate."""
        if deviation in _TOLERABLE:
            return (
                f"the product configuration {self.id} does not tolerate {deviation}: ask {self.maker} to mend the "
                "export, or tolerate it in a configuration of your own (--products)"
            )
        return f"the product configuration {self.id} follows the standard here: correct the export or ask {self.maker}"


class _Document(Written):
    products: Annotated[tuple[Product, ...], Field(min_length=1)]


def products(path: Path | None = None) -> Mapping[str, Product]:
    """The configurations in a YAML file, by id; by default in the one that comes with the package.

    Raises:
        ConfigError: `products.invalid`, listing all problems; `config.file`, if the file cannot be read.
    """
    path = path or data_path("connectors") / "products.yaml"
    try:
        found = _Document.model_validate(read_yaml(path)).products
    except ValidationError as error:
        raise refuse(str(path), problems_of(error), "products.invalid") from None
    by_id = {product.id: product for product in found}
    if len(by_id) != len(found):
        raise ConfigError(f"{path}: two products have one id; give each its own", code="products.invalid")
    return MappingProxyType(by_id)
