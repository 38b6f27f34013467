"""A folder of YAML files becomes a registry, or an error that lists everything that is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from broker.data import data_path
from broker.errors import ConfigError
from broker.registry import PublicKey, Registry, check, load, load_document, records_of, with_keys
from tests.registry.entries import jwk


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
    assert len(document.connections) == 8


@pytest.mark.parametrize(
    ("file", "was", "becomes", "message"),
    [
        ("schools.yaml", "board: bestuur-horizon", "board: nobody",
         "schools.yaml: schools[0] (99PA) board: there is no board nobody"),
        ("schools.yaml", "sis: sis-noord", "sis: sis-zuid",
         "schools.yaml: schools[0] (99PA) sis: there is no party sis-zuid"),
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
        ("connections.yaml", "sender: uitgeverij-delta", "sender: uitgeverij-west",
         "sender: there is no party uitgeverij-west"),
        ("connections.yaml", "receiver: portaal-plein", "receiver: uitgeverij-oost",
         "no route takes usage from uitgeverij-delta to uitgeverij-oost"),
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
    replace(folder, "schools.yaml", "sis: sis-noord", "sis: sis-zuid")
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


def test_keys_are_filled_in_for_the_parties_that_are_named(folder: Path) -> None:
    """The others keep what they have; a name that is no party is refused."""
    document = load_document(folder)
    key = PublicKey(kid="k1", jwk=jwk())
    found = {party.id: party.keys for party in with_keys(document, {"sis-noord": [key]}).parties}
    assert found.pop("sis-noord") == (key,)
    assert set(found.values()) == {()}
    with pytest.raises(ConfigError, match="no such party in the document: sis-zuid"):
        with_keys(document, {"sis-zuid": [key]})


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
