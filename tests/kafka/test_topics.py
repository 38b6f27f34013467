"""Topic files: the design's table, and what may be in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from broker.app import rolling
from broker.data import data_path
from broker.errors import ConfigError
from broker.exchange.duties import DESTROY_DAYS
from broker.kafka.topics import PartyTopics, desired_topics, load_specs
from broker.schemas import catalogue
from tests.kafka.conftest import Cluster

DAY_MS = 24 * 3600 * 1000
FAMILIES = sorted({name for name, _ in catalogue().families})
# How many days what a party received is there: at least, and at most (a segment expires as a whole, a day later).
KEPT = {
    "connection": (60, 61),
    "control": (90, 91),
    "identity": (1, 2),
    "licence": (60, 61),
    "order": (60, 61),
    "result": (60, 61),
    "roster": (60, 61),
    "usage": (60, 61),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a copy of one good file."""
    (tmp_path / "parked.yaml").write_text((data_path("topics") / "parked.yaml").read_text())
    return tmp_path


def test_the_files_are_the_table_of_the_design() -> None:
    """Names and partition counts of design.md, section 4, and `broker.keys`."""
    assert {spec.name: spec.partitions for spec in load_specs()} == {
        "in.{party}": 3,
        **{f"out.{{party}}.{family}": 3 for family in FAMILIES},
        "status.{party}": 1,
        "quarantine.{party}": 1,
        "registry": 1,
        "vault.identity": 4,
        "parked": 4,
        "lane.state": 4,
        "audit.events": 4,
        "audit.control": 1,
        "audit.index": 4,
        "audit.checkpoints": 1,
        "audit.counts": 1,
        "counts.state": 1,
        "schemas": 1,
        "broker.keys": 1,
    }


@pytest.mark.parametrize(
    ("topic", "days"),
    [
        ("in.{party}", 7),
        *((f"out.{{party}}.{family}", at_most) for family, (_, at_most) in KEPT.items()),
        ("status.{party}", 30),
        ("quarantine.{party}", 30),
        ("audit.index", 7),
        ("audit.counts", 7),
    ],
)
def test_nothing_is_kept_longer_than_promised(topic: str, days: int) -> None:
    """A segment expires as a whole, after its last record: its age counts on top of the retention."""
    config = next(spec.config for spec in load_specs() if spec.name == topic)
    assert config["cleanup.policy"] == "delete"
    assert int(config["retention.ms"]) + int(config["segment.ms"]) == days * DAY_MS


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_states_how_long_it_is_kept(family: str) -> None:
    """All of the catalogue, each in a file of its own; the days are those of `docs/howto/operate.md`."""
    spec = next(spec for spec in load_specs() if spec.family == family)
    assert int(spec.config["retention.ms"]) == KEPT[family][0] * DAY_MS


@pytest.mark.parametrize("family", sorted(KEPT.keys() - {"identity"}))
def test_what_is_delivered_outlives_the_summer_holiday(family: str) -> None:
    """Exports stop for six weeks, and nothing is lost by it (domain, 10.14)."""
    spec = next(spec for spec in load_specs() if spec.family == family)
    assert int(spec.config["retention.ms"]) >= 60 * DAY_MS


def test_a_request_to_destroy_outlives_its_deadline_after_a_summer() -> None:
    """30 days to do it, and 60 in which nobody may read it."""
    spec = next(spec for spec in load_specs() if spec.family == "control")
    assert int(spec.config["retention.ms"]) >= (DESTROY_DAYS + 60) * DAY_MS


def test_a_new_family_does_not_load_without_a_term() -> None:
    """Somebody must have said how long it is kept; the message names the file that is missing."""
    with pytest.raises(ConfigError, match=r"Family absence has no topic.*out\.party\.absence\.yaml") as raised:
        load_specs(families=[*FAMILIES, "absence"])
    assert raised.value.code == "topics.family"


def test_a_topic_of_a_family_that_is_gone_is_refused() -> None:
    """Its file would go on saying something about nothing."""
    with pytest.raises(ConfigError, match="usage"):
        load_specs(families=set(FAMILIES) - {"usage"})


def test_a_party_that_receives_a_family_without_topic_is_an_error() -> None:
    """Else it would get no topic, and everything for it would be refused."""
    specs = load_specs()
    with pytest.raises(ConfigError, match="Family absence"):
        desired_topics(specs, {"pub": PartyTopics(frozenset({"absence"}))})


def test_a_topic_says_how_long_records_are_kept(folder: Path) -> None:
    """Kafka's own default of a week would hold in silence."""
    file = folder / "parked.yaml"
    file.write_text(file.read_text().replace("cleanup.policy: compact", "cleanup.policy: delete"))
    with pytest.raises(ConfigError, match="how long records are kept"):
        load_specs(folder)


def test_the_operators_guide_tells_all_terms() -> None:
    """One row for each topic in `docs/howto/operate.md`, with the days of the file."""
    guide = (Path(__file__).parents[2] / "docs" / "howto" / "operate.md").read_text("utf-8")
    rows = {row.split("|")[1].strip(" `"): row for row in guide.splitlines() if row.startswith("| `")}
    for spec in load_specs():
        row = rows[spec.name.replace("{party}", "<party>")]
        if spec.config["cleanup.policy"] == "compact":
            assert "the newest of each key" in row
        else:
            assert f" {int(spec.config['retention.ms']) // DAY_MS} d" in row


@pytest.mark.kafka
def test_plan_and_apply_honour_the_term_of_each_family(cluster: Cluster) -> None:
    """The topics stand with it; another term shows as one change, and is made."""
    terms = {spec.name: spec.config["retention.ms"] for spec in cluster.topics if spec.name.startswith("out.pub.")}
    assert terms == {f"out.pub.{family}": str(KEPT[family][0] * DAY_MS) for family in ("licence", "usage")}
    assert cluster.admin.plan(cluster.topics, None) == []
    licence = next(spec for spec in cluster.topics if spec.name == "out.pub.licence")
    shorter = replace(licence, config={**licence.config, "retention.ms": str(DAY_MS)})
    assert [(c.kind, c.target, c.config) for c in cluster.admin.apply([shorter], None)] == [
        ("set_config", "out.pub.licence", {"retention.ms": str(DAY_MS)})
    ]
    cluster.admin.apply([licence], None)
    assert cluster.admin.plan(cluster.topics, None) == []


@pytest.mark.parametrize("topic", ["in.{party}", "audit.counts"])
def test_a_sender_does_not_decide_how_long_its_records_live(topic: str) -> None:
    """Nor in which hour it counted: both have the broker's time. A client's clock could be years ahead."""
    assert next(s for s in load_specs() if s.name == topic).config["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize("topic", ["vault.identity", "parked"])
def test_what_was_erased_is_gone_within_two_days(topic: str) -> None:
    """A compacted topic would otherwise keep the old record until enough new ones came. A segment is closed at its age by
    the next record, which a worker writes; the tombstone's term begins with the compaction, and ends at one."""
    assert topic in rolling.TOPICS
    config = next(spec.config for spec in load_specs() if spec.name == topic)
    closed = int(config["max.compaction.lag.ms"]) + int(rolling.EVERY_S * 1000)
    assert closed + int(config["delete.retention.ms"]) + closed <= 2 * DAY_MS


def test_what_leads_to_an_erased_person_is_gone_within_eight_days() -> None:
    """The worst case of `docs/audit.md`: the index for seven days (its term, and the day of its segment) and a day in
    which a store reads it; the vault is sooner. Nothing else that the broker can open by a person has another term."""
    specs = {spec.name: spec.config for spec in load_specs()}
    index, vault = specs["audit.index"], specs["vault.identity"]
    assert int(index["retention.ms"]) + int(index["segment.ms"]) + DAY_MS <= 8 * DAY_MS
    assert index["cleanup.policy"] == "delete"
    assert vault["cleanup.policy"] == "compact"
    stated = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")
    assert "at most 8 days" in stated
    kept = {row.split("|")[1].strip(" `"): row for row in stated.splitlines() if row.startswith("| `")}
    for name in ("vault.identity", "audit.index", "status.<party>", "quarantine.<party>", "in.<party>", "parked"):
        assert name in kept, f"docs/audit.md does not say what becomes of {name}"
    for name in ("status", "quarantine"):
        config = specs[name + ".{party}"]
        days = (int(config["retention.ms"]) + int(config["segment.ms"])) // DAY_MS
        assert f"{days} days" in kept[f"{name}.<party>"]
    days = (int(specs["in.{party}"]["retention.ms"]) + int(specs["in.{party}"]["segment.ms"])) // DAY_MS
    assert f"{days} days" in kept["in.<party>"]


def test_each_party_gets_its_own_topics() -> None:
    """One in, status and quarantine each; one out per family it may receive; counts by volume where keyed."""
    parties = {"pub": PartyTopics(frozenset({"usage", "order"}), partitions=12), "sis": PartyTopics()}
    wanted = {spec.name: spec for spec in desired_topics(load_specs(), parties, replicas=1)}
    assert {name for name in wanted if ".pub" in name or ".sis" in name} == {
        *("in.pub", "out.pub.order", "out.pub.usage", "status.pub", "quarantine.pub"),
        *("in.sis", "status.sis", "quarantine.sis"),
    }
    assert (wanted["in.pub"].partitions, wanted["status.pub"].partitions, wanted["in.sis"].partitions) == (12, 1, 3)
    assert not any(spec.template or spec.placeholders for spec in wanted.values())
    assert {(spec.replicas, spec.config["min.insync.replicas"]) for spec in wanted.values()} == {(1, "1")}


@pytest.mark.parametrize(("party", "family"), [("pub.x", "usage"), ("PUB", "usage"), ("pub", "us.age"), ("pub", "")])
def test_names_that_would_change_a_topics_meaning_are_refused(party: str, family: str) -> None:
    """A dot too many, and the topic is another party's."""
    with pytest.raises(ConfigError):
        desired_topics(load_specs(), {party: PartyTopics(frozenset({family}))})


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["apiVersion"], "kafka.strimzi.io/v1beta2", "apiVersion"),
        (["metadata", "labels", "classification"], "secret", "classification"),
        (["metadata", "annotations"], {}, "eck-broker/schema"),
        (["spec", "partitions"], 0, "partitions"),
        (["spec", "partition"], 4, "partition"),
        (["spec", "topicName"], "in.{party}", "template"),
        (["spec", "config", "cleanup.policy"], "both", "how long"),
        (["spec", "topicName"], "In", "name"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(folder: Path, path: list[str], value: object, words: str) -> None:
    """The message has the file and what is wrong in it."""
    file = folder / "parked.yaml"
    document = yaml.safe_load(file.read_text())
    at = document
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=words) as raised:
        load_specs(folder)
    assert "parked.yaml" in str(raised.value)


def test_a_topic_is_specified_once(folder: Path) -> None:
    """Two files for one topic: which one counts?"""
    (folder / "other.yaml").write_text((folder / "parked.yaml").read_text())
    with pytest.raises(ConfigError, match="twice"):
        load_specs(folder)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    """Else a wrong path would look as if nothing were wanted."""
    with pytest.raises(ConfigError, match="no topic files"):
        load_specs(tmp_path)
