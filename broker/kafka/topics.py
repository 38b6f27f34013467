"""Topics as they should be: read from `topics/*.yaml`, with the templates filled in for each party.

The files have the shape of a Strimzi `KafkaTopic`, so that Kubernetes users recognise them. A template
has `{party}` (and `{family}`) in its `topicName` and the annotation `eck-broker/template: "true"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.data import data_path
from broker.errors import ConfigError

#: No dots, so that the prefix `out.<party>.` of one party can never cover another's topics.
PARTY_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,38}[a-z0-9]")
FAMILY: Final = re.compile(r"[a-z][a-z0-9-]{0,38}")
TOPIC_NAME: Final = re.compile(r"[a-z0-9.-]{1,200}")
PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic, or the template of one per party.

    Args:
        name: of the topic; with placeholders in a template.
        config: topic settings by their Kafka name, values as Kafka writes them.
        keyed: records of one key stay in order, so the partition count is never raised in place.
        owner, classification, schema, key: for people: who writes, what is in it.
    """

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str]
    keyed: bool = False
    template: bool = False
    owner: str = ""
    classification: str = ""
    schema: str = ""
    key: str = ""

    @property
    def placeholders(self) -> frozenset[str]:
        """Names between braces in a template's name."""
        return frozenset(PLACEHOLDER.findall(self.name))

    def with_replicas(self, replicas: int) -> TopicSpec:
        """The same topic on fewer (or more) brokers; `min.insync.replicas` goes along."""
        config = dict(self.config)
        in_sync = config.get("min.insync.replicas")
        if in_sync is not None:
            # Two of three survive the loss of one without losing a write; with fewer brokers one is all there is.
            config["min.insync.replicas"] = str(min(int(in_sync), max(1, replicas - 1)))
        return replace(self, replicas=replicas, config=config)


@dataclass(frozen=True, slots=True)
class PartyTopics:
    """What decides which topics a party has.

    Args:
        families: what it may receive: an `out.<party>.<family>` each.
        partitions: of its keyed topics, by volume; `None` leaves the template's.
    """

    families: frozenset[str] = frozenset()
    partitions: int | None = None


def load_specs(folder: Path | None = None) -> tuple[TopicSpec, ...]:
    """Reads all specifications, sorted by name; by default those that come with the broker.

    Raises:
        ConfigError: a file is not a `KafkaTopic` as we know it, or two have one name.
    """
    folder = folder or data_path("topics")
    specs = sorted((_read(path) for path in sorted(folder.glob("*.yaml"))), key=lambda spec: spec.name)
    if not specs:
        raise ConfigError(f"There are no topic files (*.yaml) in {folder}.", code="topics.none")
    names = [spec.name for spec in specs]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise ConfigError(f"Topic {min(double)} is specified twice in {folder}. Remove one.", code="topics.double")
    return tuple(specs)


def desired_topics(
    specs: Iterable[TopicSpec], parties: Mapping[str, PartyTopics], *, replicas: int | None = None
) -> tuple[TopicSpec, ...]:
    """Fills the templates in: the topics that should be there, sorted by name.

    Args:
        parties: by party id.
        replicas: instead of what the files say; 1 for the embedded Kafka.

    Raises:
        ConfigError: a party id or a family cannot be part of a topic's name.
    """
    for party, topics in parties.items():
        require_party_id(party)
        for family in topics.families:
            if not FAMILY.fullmatch(family):
                raise ConfigError(
                    f"Family {family!r} of party {party} cannot be in a topic name.", code="topics.family"
                )
    wanted: list[TopicSpec] = []
    for spec in specs:
        wanted += _filled_in(spec, parties) if spec.template else [spec]
    if replicas is not None:
        wanted = [spec.with_replicas(replicas) for spec in wanted]
    return tuple(sorted(wanted, key=lambda spec: spec.name))


def require_party_id(party: str) -> None:
    """Checks that a party's id can be a part of names.

    Raises:
        ConfigError: it cannot.
    """
    if not PARTY_ID.fullmatch(party):
        raise ConfigError(
            f"{party!r} is not a party id. Use 3 to 40 lower case letters, digits and hyphens, not at the ends.",
            code="party.id",
        )


def _filled_in(spec: TopicSpec, parties: Mapping[str, PartyTopics]) -> list[TopicSpec]:
    found = []
    for party, topics in parties.items():
        partitions = (topics.partitions if spec.keyed else None) or spec.partitions
        families = sorted(topics.families) if "family" in spec.placeholders else [""]
        for family in families:
            name = spec.name.replace("{party}", party).replace("{family}", family)
            found.append(replace(spec, name=name, partitions=partitions, template=False))
    return found


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Labels(_Model):
    owner: str
    classification: Literal["personal-sealed", "internal", "public"]


class _Annotations(_Model):
    schema_: str = Field(alias="eck-broker/schema")
    key: str = Field("", alias="eck-broker/key")
    keyed: Literal["true", "false"] = Field("false", alias="eck-broker/keyed")
    template: Literal["true", "false"] = Field("false", alias="eck-broker/template")


class _Metadata(_Model):
    name: str
    labels: _Labels
    annotations: _Annotations


class _Spec(_Model):
    topic_name: str = Field(alias="topicName")
    partitions: int = Field(ge=1, le=12)
    replicas: int = Field(ge=1, le=5)
    config: dict[str, str | bool | int | float]


class _Document(_Model):
    api_version: Literal["kafka.strimzi.io/v1"] = Field(alias="apiVersion")
    kind: Literal["KafkaTopic"]
    metadata: _Metadata
    spec: _Spec


def _read(path: Path) -> TopicSpec:
    try:
        document = _Document.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}. See topics/in.party.yaml.", code="topics.file") from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML ({type(error).__name__}).", code="topics.file") from error
    about, spec = document.metadata, document.spec
    result = TopicSpec(
        name=spec.topic_name,
        partitions=spec.partitions,
        replicas=spec.replicas,
        config={name: _kafka_value(value) for name, value in spec.config.items()},
        keyed=about.annotations.keyed == "true",
        template=about.annotations.template == "true",
        owner=about.labels.owner,
        classification=about.labels.classification,
        schema=about.annotations.schema_,
        key=about.annotations.key,
    )
    allowed: tuple[frozenset[str], ...] = (frozenset({"party"}), frozenset({"party", "family"}))
    if result.placeholders not in (allowed if result.template else (frozenset(),)):
        raise ConfigError(
            f"{path}: a template has {{party}}, or {{party}} and {{family}}, in its topicName; other topics have none.",
            code="topics.file",
        )
    if not TOPIC_NAME.fullmatch(PLACEHOLDER.sub("x", result.name)):
        raise ConfigError(f"{path}: {result.name!r} cannot be the name of a topic.", code="topics.file")
    return result


def _kafka_value(value: str | bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
