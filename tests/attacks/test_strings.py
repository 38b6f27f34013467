"""Attacks by texts that a party chooses: into logs, metrics, the reader's terminal, and the file system."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from typer.testing import CliRunner

from broker.app.logs import ALLOWED, configure
from broker.app.metrics import Metrics
from broker.cli import build, receive
from broker.client import Received
from broker.engine import BatchReport
from broker.errors import ConfigError
from broker.exchange.model import Decision, Outcome
from broker.kafka.access import party_acls
from broker.kafka.pki import DevelopmentCA
from broker.keys import FileKeys, RecipientKey
from broker.schemas import catalogue
from tests.exchange.world import DELTA, PORTAL, World, event, make_world, usage

# ---- logs

HOSTILE = (
    '\n{"event":"worker.ready","level":"info"}',
    '","level":"debug","x":"',
    "\r\x1b[2K\x1b]0;owned\x07",
    "\u2028\u0085\x00\x9b31m",
    "\u202efdp.exe",
    "%s%n%(password)s{0.__class__}",
    "een tekst " * 10_000,
)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged."""
    stream = io.StringIO()
    configure("debug", stream)
    yield stream
    structlog.reset_defaults()


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
@pytest.mark.parametrize("way", ["ours", "a library's"])
def test_a_text_of_a_party_stays_within_its_own_value_of_one_line(written: io.StringIO, way: str, text: str) -> None:
    """One JSON object a line, with our keys, our event and our level; no byte that a terminal would obey."""
    if way == "ours":
        structlog.get_logger("broker.engine.lane").warning("lane.failed", topic=f"in.{text}", reason=text)
    else:
        logging.getLogger("aiokafka").warning("Topic %s is not there: " + text.replace("%", "%%"), text)
    assert all(" " <= character <= "~" for character in written.getvalue().rstrip("\n"))
    (line,) = (json.loads(line) for line in written.getvalue().splitlines())
    assert line.keys() <= ALLOWED
    assert (line["event"], line["level"]) == ("lane.failed" if way == "ours" else "library.log", "warning")
    assert len(written.getvalue()) < 10_000


# ---- metrics


def test_a_label_can_not_make_another_sample() -> None:
    """Were a code ever to come from outside: quotes, line ends and backslashes are escaped, and one is one sample."""
    metrics = Metrics()
    code = 'x"} 1\nbroker_lost_records_total 99\n# \\'
    metrics.committed(BatchReport("exchange.in.a.0", 1, [Decision(Outcome.REFUSED, code, "pub")], 0.001, 0.001))
    found = [
        sample
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if sample.name in ("broker_decisions_total", "broker_lost_records_total")
    ]
    assert {(sample.name, sample.labels.get("code"), sample.value) for sample in found} == {
        ("broker_decisions_total", code, 1.0),
        ("broker_lost_records_total", None, 0.0),
    }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_codes_are_ours_whatever_a_party_writes(shared: World, text: str) -> None:
    """So the labels of the metrics are a bounded set: no text of an event becomes one."""
    schema = catalogue()["subject.v1"].encode({"kind": "NONE", "eck_id": None, "user_ids": [], "previous_user_ids": []})
    body = catalogue().family("usage").schema.encode(usage(progress_note=text).datum())
    record = shared.sealed(DELTA, event(), schema, body, school=text, agreement=text, receiver=text, kind=text)
    for decision in shared.run(DELTA, record).decisions:
        assert decision.code.replace(".", "").replace("_", "").isascii()
        assert text not in decision.code or len(text) < 3


@pytest.fixture(scope="module")
def shared() -> World:
    """One world for all examples."""
    return make_world()


# ---- the terminal of who reads


def test_markup_in_what_was_received_is_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link or a colour in a note is text; what would command the terminal is spelled out."""
    note = "[link=https://evil.example]open[/link] [red]x[/red] :skull: \x1b]8;;https://evil.example\x07"
    screen = io.StringIO()
    shown = Console(file=screen, force_terminal=True, width=500, **receive_console_settings())
    monkeypatch.setattr(receive, "out", shown)
    sent = replace(event(), body=usage(progress_note=note))
    receive._show(Received(sent, "out.x.usage", 0, 0, "p", "f", 1, b"", b""), as_json=False)
    text = screen.getvalue()
    assert "[link=https://evil.example]open[/link] [red]x[/red] :skull:" in text
    assert "\x1b" not in text
    assert "\\x1b]8;;" in text


def receive_console_settings() -> dict[str, bool]:
    """How the commands' own console is set: taken from it, so that a change of it is seen here."""
    real = receive.out
    return {"markup": real._markup, "emoji": real._emoji, "highlight": real._highlight}


# ---- names of files

TRICKS = (
    "../../etc/cron.d/x", "..", ".", "/etc/passwd", "a/b", "a\\b", "pub\x00", "pub\n", "%2e%2e%2fx", "~root", "-rf",
    "CON", "ｐｕｂ", "pub/../sis", "",
)  # fmt: skip


def everything(folder: Path) -> set[Path]:
    """All that is in a folder."""
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", TRICKS, ids=ascii)
def test_a_name_that_is_a_path_names_no_file(tmp_path: Path, name: str) -> None:
    """As a party, as the owner of a key, as its id, as a secret, in a certificate: refused, and nothing is written."""
    home = tmp_path / "a" / "b" / "c"
    home.mkdir(parents=True)
    authority = DevelopmentCA(home / "pki")
    authority.prepare()
    before, keys = everything(tmp_path), FileKeys(home / "keys")
    kept = RecipientKey(name, {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}, 1)
    attempts = (
        lambda: party_acls(name),
        lambda: keys.create(name),
        lambda: keys.create_secret(name),
        lambda: keys.destroy(name),
        lambda: keys.destroy_secret(name),
        lambda: keys.secret(name),
        lambda: keys.recipient_keys(name),
        lambda: keys.add_public("pub", kept),
        lambda: authority.issue_party(name),
    )
    for attempt in attempts:
        with pytest.raises(ConfigError):
            attempt()
    assert keys.private_key(name) is None
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in TRICKS if name and not name.startswith("-")], ids=ascii)
def test_no_command_lets_a_party_in_by_such_a_name(tmp_path: Path, name: str) -> None:
    """It ends before it connects anywhere: the connection file is not even there."""
    commands = ("party", "add", name, "--connection", str(tmp_path / "none.json"), "--profiles", str(tmp_path / "p"))
    done = CliRunner().invoke(build("party"), list(commands))
    assert isinstance(done.exception, ConfigError)
    assert done.exception.code == "party.id"
    assert everything(tmp_path) == set()


def test_an_event_id_that_is_a_path_becomes_no_file_of_evidence(tmp_path: Path) -> None:
    """Were the broker to pass one on: evidence is kept under a uuid or not at all."""
    from broker.client.receipts import Evidence
    from broker.errors import ContractError

    with pytest.raises(ContractError):
        Evidence("../../../x", PORTAL, b"", b"").keep(tmp_path)
    assert everything(tmp_path) == set()
