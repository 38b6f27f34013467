"""A folder of YAML files becomes a registry, or an error that lists everything that is wrong."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from broker.data import data_path
from broker.errors import ConfigError
from broker.policy import PROCESSES, Policy
from broker.registry import (
    ConnectionSide,
    PublicKey,
    Registry,
    TemporaryException,
    check,
    load,
    load_document,
    load_succession,
    records_of,
    with_keys,
)
from broker.registry.models import KINDS
from broker.registry.registry import parse_record, record_of
from tests.registry.entries import exception, jwk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example, to break."""
    return Path(shutil.copytree(data_path("examples") / "registry", tmp_path / "registry"))


def replace(folder: Path, file: str, was: str, becomes: str) -> None:
    """Change a file's first such words."""
    path = folder / file
    text = path.read_text("utf-8")
    assert was in text
    path.write_text(text.replace(was, becomes, 1), "utf-8")


def test_the_example_loads_and_passes_all_checks(folder: Path) -> None:
    """And is the same by both ways: from files, and from the records."""
    document = load_document(folder)
    found = records_of(document)
    check(found)
    assert Registry.from_records(found).version == load(folder).version
    assert len(document.connections) == 100
    # No file suspends a party, or says which keys are in use.
    assert {key.partition("/")[0] for key in found} == {*KINDS, "policy", "routes"} - {"suspension", "key"}


@pytest.mark.parametrize(
    ("file", "was", "becomes", "message"),
    [
        ("schools.yaml", "board: bestuur-horizon", "board: nobody",
         "schools.yaml: schools[0] (99PA) board: there is no board nobody"),
        ("schools.yaml", "sis: sis-noord", "sis: sis-oost",
         "schools.yaml: schools[0] (99PA) sis: there is no party sis-oost"),
        ("schools.yaml", "sis: sis-noord", "sis: portaal-plein",
         "schools.yaml: schools[0] (99PA) sis: portaal-plein does not have the role SIS"),
        ("agreements.yaml", "party: portaal-plein", "party: portaal-dorp",
         "agreements.yaml: agreements[0] (vwo-po-portaal) party: there is no party portaal-dorp"),
        ("agreements.yaml", "board: bestuur-horizon", "board: nobody", "board: there is no board nobody"),
        ("agreements.yaml", "schools: all of board", "schools: [99VA]", "99VA is not a school of board"),
        ("agreements.yaml", "schools: all of board", "schools: [99ZZ]", "schools: there is no school 99ZZ"),
        ("agreements.yaml", "yearGroup", "yearGruop", "attributes: the policy knows no attribute yearGruop"),
        ("agreements.yaml", "yearGroup", "bsn", "attributes: bsn never passes, so no agreement may promise it"),
        ("agreements.yaml", "    retention:", "    retentie:", "(vwo-po-portaal) retention: is missing"),
        ("connections.yaml", "school: 99PA", "school: 99ZZ", "school: there is no school 99ZZ"),
        ("connections.yaml", "sender: uitgeverij-delta", "sender: uitgeverij-zuid",
         "sender: there is no party uitgeverij-zuid"),
        ("connections.yaml", "receiver: portaal-plein", "receiver: uitgeverij-oost",
         "no route takes usage from uitgeverij-delta to uitgeverij-oost in Gebruik"),
        ("connections.yaml", "process: Gebruik", "process: Toegang",
         "service: no route takes usage from uitgeverij-delta to portaal-plein in Toegang"),
        ("connections.yaml", "    process: Gebruik\n", "", "(po-usage-delta-portaal) process: is missing"),
        ("connections.yaml", "school: 99PA\n", "school: 99PA\n    location: 99PA01\n",
         "(po-usage-delta-portaal) location: 99PA has no location 99PA01"),
        ("connections.yaml", "school: 99PA\n", "school: 99PA\n    location: 99VA01\n",
         "location: 99VA01 is no location of 99PA"),
        ("schools.yaml", "locations: [99VA00, 99VA01]", "locations: [99VA00]",
         "(vo-result-west-hulp) location: 99VA has no location 99VA01"),
        ("schools.yaml", "locations: [99VA00, 99VA01]", "locations: [99VA00]",
         "(hulp-vo) schools: there is no school 99VA01"),
        ("schools.yaml", "id: 99MA", "id: 99VA01", "schools[1] (99VA) locations: 99VA01 is a school of its own"),
        ("schools.yaml", "sectors: [MBO]", "sectors: [MBO]\n    formerly: [99VA]",
         "(99MA) formerly: 99VA is a school of its own"),
        ("schools.yaml", "bestuur-werkplaats", "bestuur-kompas",
         "(werkplaats-naar-vakwijs) predecessor: the board bestuur-kompas is there, though bestuur-vakwijs took its"
         " place on 2025-08-01"),
        ("schools.yaml", "what: board\n    predecessor: bestuur-werkplaats\n    successor: bestuur-vakwijs",
         "what: school\n    predecessor: 99PA\n    successor: 99MA", "predecessor: the school 99PA is there"),
        ("agreements.yaml", "schools: [99VA01]", "schools: [99PA]", "99PA is not a school of board bestuur-kompas"),
        ("agreements.yaml", "    local_ids_until: 2027-07-31\n", "",
         "(vwo-po-portaal) document: local_ids_until: is missing, and attributes names lasKey"),
        ("agreements.yaml", "    notice: https://hulp-extern.example/wat-wij-weten\n", "", "(hulp-vo) notice: is missing"),
        ("exceptions.yaml", "school: 99VA", "school: 99ZZ", "exceptions[0] (afstandsonderwijs-2027) school: there is no"),
        ("exceptions.yaml", "school: 99VA", "school: all of board\n    board: nobody", "board: there is no board nobody"),
        ("exceptions.yaml", "receiver: portaal-plein", "receiver: portaal-dorp",
         "receiver: there is no party portaal-dorp"),
        ("exceptions.yaml", "[schoolEmail]", "[schoolMail]", "attributes: the policy knows no attribute schoolMail"),
        ("connections.yaml", "mandate: sis-noord", "mandate: portaal-plein", "this acceptance does not count"),
        ("connections.yaml", "accepted_by: uitgeverij-delta", "accepted_by: portaal-plein",
         "sender: this acceptance does not count: accepted_by must be uitgeverij-delta or sis-noord"),
        ("connections.yaml", "state: accepted", "state: on", "sides.sender.state"),
        ("connections.yaml", "id: po-usage-delta-sis", "id: po-usage-delta-portaal", "is also in connections.yaml"),
        ("parties.yaml", "parties:", "partys:", "parties.yaml: partys must be a list under one of parties, boards"),
        ("parties.yaml", "id: portaal-plein", "id: sis-noord", "party/sis-noord is also in parties.yaml: parties[0]"),
        ("parties.yaml", "roles: [SIS]", "roles: SIS", "parties.yaml: parties[0] (sis-noord) roles"),
    ],
)  # fmt: skip
def test_each_problem_is_told_with_file_and_field(
    folder: Path, file: str, was: str, becomes: str, message: str
) -> None:
    """What is wrong, where it stands, and in which field."""
    replace(folder, file, was, becomes)
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert caught.value.code == "registry.invalid"


def test_all_problems_of_all_files_are_told_at_once(folder: Path) -> None:
    """An operator corrects them in one go."""
    replace(folder, "schools.yaml", "sis: sis-noord", "sis: sis-oost")
    replace(folder, "agreements.yaml", "party: portaal-plein", "party: portaal-dorp")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert "schools[0] (99PA) sis" in str(caught.value)
    assert "agreements[0] (vwo-po-portaal) party" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("parties: [", "line 1"),
        ("- a", "must have one or more of parties"),
        ("parties: {}", "must be a list"),
        ("parties: [1]", "extra.yaml: parties[0]"),
        ("boards: []\nboards: []", "the key 'boards' is there twice"),
    ],
)
def test_a_file_that_is_no_registry_is_refused(folder: Path, content: str, message: str) -> None:
    """With its name."""
    (folder / "extra.yaml").write_text(content, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert "extra.yaml" in str(caught.value)


def test_a_file_may_say_how_a_side_ended_before_it_was_offered_anew(folder: Path) -> None:
    """As the registry has it: what stands there can be written down, and is no difference then."""
    was = 'receiver: {state: accepted, accepted_by: portaal-plein, mandate: sis-noord, at: "2026-07-01T10:30:00Z"}'
    ended = '{at: "2026-09-01T10:00:00Z", accepted_by: portaal-plein, mandate: sis-noord}'
    replace(
        folder, "connections.yaml", was, f'receiver: {{state: offered, at: "2026-10-01T10:00:00Z", ended: {ended}}}'
    )
    records = dict(records_of(load_document(folder)))
    key = "connection/po-usage-delta-portaal/receiver"
    side = parse_record(key, records[key])
    assert isinstance(side, ConnectionSide)
    assert record_of(side) == records[key]
    link = ("99PA", "uitgeverij-delta", "portaal-plein", "usage", "Gebruik", None)
    assert Registry.from_records(records).revoked_on(*link) == date(2026, 9, 1)
    assert side.ended is not None
    assert side.ended.products == "all"


def test_an_empty_file_is_no_problem(folder: Path) -> None:
    """One that has only comments adds nothing."""
    before = load(folder).version
    (folder / "later.yaml").write_text("# to come\n", "utf-8")
    assert load(folder).version == before


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    """An empty registry would remove everything: it is never what somebody meant."""
    with pytest.raises(ConfigError, match=r"has no \*\.yaml file"):
        load(tmp_path)


def test_a_private_key_in_a_file_is_refused_and_not_repeated(folder: Path) -> None:
    """Neither key nor value stands in the message."""
    key = jwk(private=True)
    lines = ", ".join(f'{name}: "{value}"' for name, value in key.items())
    replace(folder, "parties.yaml", "keys: []", f"keys: [{{kid: k1, jwk: {{{lines}}}}}]")
    with pytest.raises(ConfigError, match="holds a private key") as caught:
        load(folder)
    assert "parties.yaml: parties[0] (sis-noord) keys[0].jwk" in str(caught.value)
    assert key["d"] not in str(caught.value)


def test_two_schools_do_not_claim_one_former_brin(folder: Path) -> None:
    """P8: the pupils of the former number would be found by both."""
    replace(folder, "schools.yaml", "sectors: [MBO]", "sectors: [MBO]\n    formerly: [99XX]")
    load(folder)
    replace(folder, "schools.yaml", "sectors: [PO, VO]", "sectors: [PO, VO]\n    formerly: [99XX]")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    assert str(caught.value).count("formerly: 99XX is claimed by 2 schools") == 2


def test_an_exception_lifts_only_what_an_agreement_could_let_pass() -> None:
    """R27: never what is refused (R), dropped for this receiver (D), or passes anyway; for every attribute there is."""
    policy, good = Policy.load(), example()
    refused = {name: set[str]() for name in PROCESSES}
    for process in PROCESSES:
        asked = exception(school="99PA", process=process, attributes=sorted(policy.attributes))
        wide = record_of(TemporaryException.model_validate(asked))
        with pytest.raises(ConfigError) as caught:
            check(good | {"exception/x1": wide})
        refused[process] = set(re.findall(r"no agreement lets (\w+) pass to portaal-plein", str(caught.value)))
        effects = {
            name: {
                cell.effect
                for sector in ("PO", "VO")
                for kind in ("ordinary", "legal-test", "norm-test")
                if (cell := policy.cell(process, sector, "PORTAL", name, kind))
            }
            for name in policy.attributes
        }
        assert refused[process] == {name for name, found in effects.items() if found.isdisjoint({"C", "T"})}
    assert {"bsn", "stampseudoniem", "activationCode"} <= set.intersection(*refused.values())
    assert "schoolEmail" in refused["Gebruik"] - refused["Toegang"]


@cache
def example() -> dict[str, bytes]:
    """The records of the example."""
    return records_of(load_document(data_path("examples") / "registry"))


def test_a_side_that_lost_its_effect_is_no_reason_to_refuse_another_change(folder: Path) -> None:
    """A school changes its SIS, or a route ends: what was switched on before grants nothing, and may stand there.

    Whoever writes such a side down in a file is told.
    """
    good = example()
    school = json.loads(good["school/99PA"]) | {"sis": "sis-zuid"}
    routes = json.loads(good["routes/current"])
    fewer = {"routes": [route for route in routes["routes"] if route["family"] != "usage"]}
    check(good | {"school/99PA": json.dumps(school).encode(), "routes/current": json.dumps(fewer).encode()})
    replace(folder, "schools.yaml", "sis: sis-noord", "sis: sis-zuid")
    with pytest.raises(ConfigError, match="this acceptance does not count"):
        load(folder)


@pytest.mark.parametrize(
    "changes", [{"receiver": "sis-noord"}, {"service": "result"}, {"process": "Toegang"}, {"school": "99VA"}]
)
def test_two_sides_that_speak_of_different_links_are_refused(changes: dict[str, str]) -> None:
    """One id is one link: another one gets another id."""
    key = "connection/po-usage-delta-portaal/sender"
    side = json.loads(example()[key]) | changes
    with pytest.raises(ConfigError, match=f"{key} sender: its two sides are about different links"):
        check(example() | {key: json.dumps(side).encode()})


def test_a_file_has_one_succession(tmp_path: Path) -> None:
    """As it will stand in the folder; nothing else may stand in the file, since nothing else is done."""
    one = (
        "  - {id: s1, what: school, predecessor: 99PA, successor: 99PX, first_day: 2027-08-01, agreements: carry,"
        " connections: carry, identities: end, reason: verhuizing}\n"
    )
    file = tmp_path / "succession.yaml"
    file.write_text(f"successions:\n{one}", "utf-8")
    assert load_succession(file).successor == "99PX"
    for content in (
        "",
        "successions: []",
        f"successions:\n{one}{one}",
        f"successions:\n{one}boards:\n  - {{id: b, name: B, processing_register: https://b.example}}\n",
        f"successions:\n{one.replace('99PX', 'school')}",
    ):
        file.write_text(content, "utf-8")
        with pytest.raises(ConfigError) as caught:
            load_succession(file)
        assert caught.value.code == "registry.invalid"


def test_keys_are_filled_in_for_the_parties_that_are_named(folder: Path) -> None:
    """The others keep what they have; a name that is no party is refused."""
    document = load_document(folder)
    key = PublicKey(kid="k1", jwk=jwk())
    found = {party.id: party.keys for party in with_keys(document, {"sis-noord": [key]}).parties}
    assert found.pop("sis-noord") == (key,)
    assert set(found.values()) == {()}
    with pytest.raises(ConfigError, match="no such party in the document: sis-oost"):
        with_keys(document, {"sis-oost": [key]})


def test_records_that_do_not_fit_together_do_not_pass_the_check(folder: Path) -> None:
    """What stands before every change on Kafka: the same checks, on the records."""
    good = records_of(load_document(folder))
    for removed, message in (
        ("policy/current", "policy/current: is missing"),
        ("routes/current", "routes/current: is missing"),
        ("board/bestuur-kompas", "school/99VA board: there is no board bestuur-kompas"),
        ("party/sis-noord", "school/99PA sis: there is no party sis-noord"),
        ("school/99PA", "school: there is no school 99PA"),
    ):
        with pytest.raises(ConfigError) as caught:
            check({key: value for key, value in good.items() if key != removed})
        assert message in str(caught.value)
