"""Topics as they should be: read from `topics/*.yaml`, with the templates filled in for each party.

The files have the shape of a Strimzi `KafkaTopic`, so that Kubernetes users recognise them. A template
has `{party}` in its `topicName` and the annotation `eck-broker/template: "true"`. What a party receives is kept
as long as its family asks, so `out.{party}.<family>` is a file for each family: without one a family does not load.
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
from broker.schemas import catalogue

#: No dots, so that the prefix `out.<party>.` of one party can never cover another's topics.
PARTY_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,38}[a-z0-9]")
FAMILY: Final = re.compile(r"[a-z][a-z0-9-]{0,38}")
TOPIC_NAME: Final = re.compile(r"[a-z0-9.-]{1,200}")
PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
#: Kafka's own default would keep records for 7 days, whatever they are: each topic says it itself (R22).
STATED: Final[Mapping[str, frozenset[str]]] = {"compact": frozenset(), "delete": frozenset({"retention.ms"})}
MOST_PARTITIONS: Final = 12  # of any topic
OF_FAMILY: Final = re.compile(r"out\.\{party\}\.(.+)")


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

    @property
    def family(self) -> str | None:
        """The family that a template of `out.{party}.<family>` is for; None for other topics."""
        found = OF_FAMILY.fullmatch(self.name)
        return None if found is None else found[1]

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


def load_specs(folder: Path | None = None, families: Iterable[str] | None = None) -> tuple[TopicSpec, ...]:
    """Reads all specifications, sorted by name; by default those that come with the broker.

    Args:
        families: that there are; by default those of the schemas that come with the broker.

    Raises:
        ConfigError: a file is not a `KafkaTopic` as we know it, two have one name, one does not say how long records
            are kept, or it has not one for each family (a folder that has none for any family is left as it is).
    """
    folder = folder or data_path("topics")
    specs = sorted((_read(path) for path in sorted(folder.glob("*.yaml"))), key=lambda spec: spec.name)
    if not specs:
        raise ConfigError(f"There are no topic files (*.yaml) in {folder}.", code="topics.none")
    names = [spec.name for spec in specs]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise ConfigError(f"Topic {min(double)} is specified twice in {folder}. Remove one.", code="topics.double")
    stated = {spec.family for spec in specs if spec.family is not None}
    if stated:
        known = set(families) if families is not None else {name for name, _ in catalogue().families}
        if known - stated:
            raise _unstated(min(known - stated))
        if stated - known:
            raise ConfigError(
                f"out.{{party}}.{min(stated - known)} in {folder} is of a family that is not known. Remove the file.",
                code="topics.family",
            )
    return tuple(specs)


def _unstated(family: str) -> ConfigError:
    return ConfigError(
        f"Family {family} has no topic: nobody said how long it is kept. Add a file such as out.party.{family}.yaml.",
        code="topics.family",
    )


def desired_topics(
    specs: Iterable[TopicSpec], parties: Mapping[str, PartyTopics], *, replicas: int | None = None
) -> tuple[TopicSpec, ...]:
    """Fills the templates in: the topics that should be there, sorted by name.

    Args:
        parties: by party id.
        replicas: instead of what the files say; 1 for the embedded Kafka.

    Raises:
        ConfigError: a party id or a family cannot be part of a topic's name, or a family has no topic.
    """
    specs = list(specs)
    stated = {spec.family for spec in specs if spec.family is not None}
    for party, topics in parties.items():
        require_party_id(party)
        for family in topics.families:
            if not FAMILY.fullmatch(family):
                raise ConfigError(
                    f"Family {family!r} of party {party} cannot be in a topic name.", code="topics.family"
                )
            if stated and family not in stated:
                raise _unstated(family)
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
        if spec.family is None or spec.family in topics.families:
            name = spec.name.replace("{party}", party)
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
    partitions: int = Field(ge=1, le=MOST_PARTITIONS)
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
    if result.placeholders != (frozenset({"party"}) if result.template else frozenset()):
        raise ConfigError(
            f"{path}: a template has {{party}} in its topicName, and nothing else in braces; other topics have none.",
            code="topics.file",
        )
    if result.family is not None and not FAMILY.fullmatch(result.family):
        raise ConfigError(f"{path}: {result.family!r} cannot be a family's name.", code="topics.file")
    needed = STATED.get(result.config.get("cleanup.policy", ""))
    if needed is None or not needed <= result.config.keys():
        raise ConfigError(
            f"{path}: does not say how long records are kept: cleanup.policy `compact`, or `delete` with retention.ms.",
            code="topics.file",
        )
    if not TOPIC_NAME.fullmatch(PLACEHOLDER.sub("x", result.name)):
        raise ConfigError(f"{path}: {result.name!r} cannot be the name of a topic.", code="topics.file")
    return result


def _kafka_value(value: str | bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
