"""The exporter of a board's lines, against a collector on a real socket; once with a real Kafka."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from broker.app.ldv_boards import Boards
from broker.app.ldv_collector import Collector, Endpoint, Pauses, _retry_after, headers_of
from broker.app.ldv_export import Exporter, ExportLimits, ExportMetrics
from broker.app.ldv_leaves import Leaf, group_of
from broker.audit.ldv import entry_of, line_of
from broker.audit.leaf import canonical
from broker.audit.otlp import request_of
from broker.errors import ConfigError
from broker.kafka.pki import DevelopmentCA
from broker.registry import Registry
from tests.app.collecting import (
    FIRST,
    SECOND,
    FixedRegistry,
    LocalCollector,
    MemoryLeaves,
    a_leaf,
    answers,
    listening,
    partial,
    some,
    taken,
)
from tests.audit.lines import PERSONAL, written
from tests.exchange.world import make_world

HORIZON, KOMPAS = "bestuur-horizon", "bestuur-kompas"
SOON = Pauses(first=0.001, longest=0.002, asked=0.002)
LIMITS = ExportLimits(stop_s=5.0, pauses=SOON)
REGISTER = "https://register.horizon.example/verwerkingen/Gebruik"


@pytest.fixture
def registry() -> Registry:
    """The example: 99PA is of Horizon, 99VA of Kompas."""
    return make_world().registry


@asynccontextmanager
async def exporting(
    collector: LocalCollector, leaves: MemoryLeaves, registry: Any, board: str | None = HORIZON, timeout_s: float = 5.0,
    limits: ExportLimits = LIMITS,
) -> AsyncIterator[Exporter]:  # fmt: skip
    """An exporter whose collector listens."""
    directory = FixedRegistry(registry) if isinstance(registry, Registry) else registry
    async with listening(collector), Collector(Endpoint.of(collector.url), timeout_s) as sender:
        exporter = Exporter(leaves, sender, directory, board, ExportMetrics(), limits)
        exporter._metrics.watch(exporter)
        yield exporter


async def drained(exporter: Exporter) -> None:
    """Until all leaves were read."""
    await asyncio.wait_for(exporter.run(idle_s=0.05), 20)


async def until(holds: Callable[[], bool]) -> None:
    """Until this is so; not for ever."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it is asked of somebody else's state
            await asyncio.sleep(0.01)


def counted(exporter: Exporter) -> dict[str, float]:
    """Its metrics."""
    lines = [line for line in exporter._metrics.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


# ---- what goes where


async def test_the_lines_of_the_board_are_sent_in_order_and_then_committed(registry: Registry) -> None:
    """In requests of at most 500; positions move behind everything that was looked at."""
    leaves = MemoryLeaves([some(1203), some(2, SECOND)])
    collector = LocalCollector()
    async with exporting(collector, leaves, registry) as exporter:
        await drained(exporter)
    assert collector.sizes == [500, 500, 203, 2]
    assert collector.kept == [f"0@{n}" for n in range(1203)] + ["1@0", "1@1"]
    assert leaves.commits == [{FIRST: 1203}, {SECOND: 2}]
    assert collector.headers[0]["Content-Type"] == "application/x-protobuf"


async def test_leaves_of_others_and_leaves_without_a_line_are_passed_over(registry: Registry) -> None:
    """Their positions are committed too, and nothing is sent for them."""
    window = Leaf(FIRST, 2, canonical({"window": {}, "v": 1}))
    batch = [
        a_leaf("other", FIRST, 0, school="99VA"),
        a_leaf("mine", FIRST, 1),
        window,
        a_leaf("own", FIRST, 3, school=None),
    ]
    for board, names in ((HORIZON, ["mine"]), (KOMPAS, ["other"]), (None, ["own"]), ("bestuur-vakwijs", [])):
        leaves, collector = MemoryLeaves([batch]), LocalCollector()
        async with exporting(collector, leaves, registry, board) as exporter:
            await drained(exporter)
        assert collector.kept == names
        assert leaves.committed == {FIRST: 4}
        assert len(collector.requests) == len(names)


async def test_the_registry_is_asked_anew_for_every_batch(registry: Registry) -> None:
    """A school that came in since belongs to its board from its first line."""
    before = registry.with_changes({"school/99PA": None})
    directory = FixedRegistry(before, registry)
    leaves, collector = MemoryLeaves([some(1), some(1, begin=1)]), LocalCollector()
    async with exporting(collector, leaves, directory) as exporter:
        await drained(exporter)
    assert collector.kept == ["0@1"]
    assert directory.asked == 2


def moved(registry: Registry, school: str, board: str) -> Registry:
    """The school has another board now."""
    entry = registry.schools[school].model_dump(mode="json", exclude_none=True) | {"board": board}
    return registry.with_changes({f"school/{school}": canonical(entry)})


def owner(registry: Registry, **changes: Any) -> str | None:
    """Whose a leaf is."""
    return Boards(registry).of(entry_of(a_leaf("n", FIRST, 0, **changes).value))


def test_a_line_belongs_to_the_register_that_it_names_before_the_board_of_its_school(registry: Registry) -> None:
    """After a school moved, what was decided before stays with the board that was responsible then."""
    now = moved(registry, "99PA", KOMPAS)
    assert owner(now, activity=REGISTER) == HORIZON
    assert owner(now) == KOMPAS
    assert owner(now, activity="https://register.gone.example/verwerkingen/Gebruik") == KOMPAS
    assert owner(now, activity=REGISTER, school=None) == HORIZON


def test_a_line_without_a_known_school_or_register_is_of_nobody(registry: Registry) -> None:
    """It belongs to the broker's own register."""
    assert owner(registry, school=None) is None
    assert owner(registry, school="99ZZ") is None


def test_boards_with_one_register_are_told_apart_by_the_school(registry: Registry) -> None:
    """And a school that left both does not take their lines along."""
    board = registry.boards[KOMPAS].model_dump(mode="json") | {"processing_register": REGISTER.rpartition("/")[0]}
    shared = registry.with_changes({f"board/{KOMPAS}": canonical(board)})
    assert owner(shared, activity=REGISTER, school="99VA") == KOMPAS
    assert owner(shared, activity=REGISTER) == HORIZON
    assert owner(moved(shared, "99PA", "bestuur-vakwijs"), activity=REGISTER) is None


async def test_a_request_holds_no_value_of_a_person(registry: Registry) -> None:
    """Every outcome of the exchange, as it goes over the wire: tokens, no names or numbers, none of our evidence."""
    leaves = MemoryLeaves([[Leaf(FIRST, n, value) for n, value in enumerate(written())]])
    collector = LocalCollector()
    async with exporting(collector, leaves, registry) as exporter:
        await drained(exporter)
    wire = b"".join(collector.bodies)
    mine = [json.loads(value) for value in written() if b'"school":"99PA"' in value]
    assert len(collector.kept) == len(mine) > 8
    assert {leaf["x"]["decision"] for leaf in mine} >= {"delivered", "refused", "parked", "expired", "duplicate"}
    assert [value for value in (*PERSONAL, "99PA", "commit", mine[0]["x"]["event"]) if value.encode() in wire] == []


# ---- what goes wrong, and passes


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_collector_gets_the_same_again(registry: Registry, status: int) -> None:
    """As OTLP says of these codes; nothing is committed before it takes the lines."""
    leaves, collector = (
        MemoryLeaves([some(3)]),
        LocalCollector([answers(status, Retry_After="0"), answers(status), taken]),
    )
    async with exporting(collector, leaves, registry) as exporter:
        await drained(exporter)
    assert collector.requests == [["0@0", "0@1", "0@2"]] * 3
    assert collector.kept == ["0@0", "0@1", "0@2"]
    assert leaves.commits == [{FIRST: 3}]


async def test_a_collector_that_hangs_gets_the_same_again(registry: Registry) -> None:
    """After the time-out of the request."""
    leaves, collector = MemoryLeaves([some(2)]), LocalCollector(hangs=asyncio.Event())
    async with exporting(collector, leaves, registry, timeout_s=0.2) as exporter:
        running = asyncio.create_task(drained(exporter))
        await until(lambda: len(collector.requests) >= 2)
        assert leaves.commits == []
        assert collector.hangs is not None
        collector.hangs.set()
        await running
    assert leaves.commits == [{FIRST: 2}]
    assert set(map(tuple, collector.requests)) == {("0@0", "0@1")}


async def test_a_collector_that_is_not_there_is_waited_for(registry: Registry) -> None:
    """Nothing listens; then something does."""
    leaves, collector = MemoryLeaves([some(1)]), LocalCollector()
    async with listening(collector):
        url = collector.url
    port = int(url.rpartition(":")[2].partition("/")[0])
    with structlog.testing.capture_logs() as said:
        async with Collector(Endpoint.of(url)) as sender:
            exporter = Exporter(leaves, sender, FixedRegistry(registry), HORIZON, ExportMetrics(), LIMITS)
            running = asyncio.create_task(exporter.run())
            await until(lambda: any(line["event"] == "ldv.busy" for line in said))
            assert leaves.commits == []
            server = await asyncio.start_server(_minimal_collector, "localhost", port)
            async with server:
                await asyncio.wait_for(leaves.emptied.wait(), 20)
                exporter.stop()
                await running
    assert leaves.commits == [{FIRST: 1}]


async def _minimal_collector(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(h[16:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length: "))
    await reader.readexactly(length)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    await writer.drain()
    writer.close()


# ---- what goes wrong, and ends it


@pytest.mark.parametrize("refused", [answers(400), answers(413), answers(500), partial(1)])
async def test_a_line_that_is_not_taken_even_alone_ends_the_export(registry: Registry, refused: Any) -> None:
    """With its place; nothing of what the collector says about it, which may quote it."""
    leaves, collector = MemoryLeaves([some(1)]), LocalCollector([refused])
    with structlog.testing.capture_logs() as said:
        async with exporting(collector, leaves, registry) as exporter:
            with pytest.raises(ConfigError) as caught:
                await drained(exporter)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("audit.events", 0, 0)
    assert "[audit.events/0@0]" in str(caught.value)
    assert {"event": "ldv.rejected", "code": "ldv.rejected", "topic": "audit.events", "partition": 0, "offset": 0,
            "log_level": "critical"} in said  # fmt: skip
    assert "Emma" not in str(caught.value) + str(said)
    assert leaves.committed.get(FIRST, 0) == 0


@pytest.mark.parametrize("guilty", [0, 1, 250, 333, 499])
async def test_a_rejected_request_is_halved_down_to_the_guilty_line(registry: Registry, guilty: int) -> None:
    """All before it is taken and committed, nothing behind it is passed over; a few requests are enough."""
    leaves, collector = MemoryLeaves([some(500)]), LocalCollector(refuses={f"0@{guilty}"})
    async with exporting(collector, leaves, registry) as exporter:
        with pytest.raises(ConfigError) as caught:
            await drained(exporter)
    assert (caught.value.code, caught.value.offset) == ("ldv.rejected", guilty)
    assert collector.kept == [f"0@{n}" for n in range(guilty)]
    assert leaves.committed == {FIRST: guilty}
    assert len(collector.requests) <= 19


async def test_after_the_cause_is_gone_it_goes_on_with_the_guilty_line(registry: Registry) -> None:
    """Nothing is missing and nothing is there twice, with lines of two partitions in one request."""
    everything = [*some(4), *some(4, SECOND)]
    leaves, collector = MemoryLeaves([everything]), LocalCollector(refuses={"0@2"})
    async with exporting(collector, leaves, registry) as exporter:
        with pytest.raises(ConfigError):
            await drained(exporter)
    assert leaves.committed == {FIRST: 2, SECOND: 0}
    again = MemoryLeaves([[leaf for leaf in everything if leaf.offset >= leaves.committed[leaf.place]]])
    second = LocalCollector(kept=collector.kept)
    async with exporting(second, again, registry) as exporter:
        await drained(exporter)
    assert sorted(second.kept) == sorted(f"{leaf.place.partition}@{leaf.offset}" for leaf in everything)


async def test_a_request_of_which_a_part_is_not_taken_is_not_committed(registry: Registry) -> None:
    """Once in a while a collector drops some; sent again in halves they are taken, and then they count."""
    leaves, collector = MemoryLeaves([some(4)]), LocalCollector([partial(1), taken])
    async with exporting(collector, leaves, registry) as exporter:
        await drained(exporter)
    assert collector.sizes == [4, 2, 2]
    assert collector.kept == ["0@0", "0@1", "0@2", "0@3"]
    assert leaves.commits == [{FIRST: 4}]
    assert counted(exporter)["broker_ldv_lines_total"] == 4


@pytest.mark.parametrize(
    "reply", [answers(status) for status in (204, 301, 307, 401, 403, 404, 405, 415)]
    + [answers(200), answers(200, Content_Type="text/html")],
    ids=["204", "301", "307", "401", "403", "404", "405", "415", "200 without a type", "200 as a page"],
)  # fmt: skip
async def test_an_endpoint_that_is_wrong_ends_it_at_once(registry: Registry, reply: Any) -> None:
    """No line is to blame, so nothing is halved; a page of a portal is no acknowledgement."""
    leaves, collector = MemoryLeaves([some(4)]), LocalCollector([reply])
    async with exporting(collector, leaves, registry) as exporter:
        with pytest.raises(ConfigError) as caught:
            await drained(exporter)
    assert caught.value.code == "ldv.endpoint"
    assert collector.sizes == [4]
    assert leaves.committed == {FIRST: 0}


async def test_a_redirect_is_not_followed(registry: Registry) -> None:
    """It would carry lines and login to another address."""
    elsewhere = LocalCollector()
    async with listening(elsewhere):
        leaves, collector = MemoryLeaves([some(1)]), LocalCollector([answers(307, Location=elsewhere.url)])
        async with exporting(collector, leaves, registry) as exporter:
            with pytest.raises(ConfigError):
                await drained(exporter)
    assert elsewhere.requests == []


async def test_half_an_answer_is_no_answer(registry: Registry) -> None:
    """What was rejected may be in the missing half: an answer of impossible length ends it."""
    answer = partial(0)
    long = LocalCollector([lambda c, lines: _padded(answer(c, lines))])
    leaves = MemoryLeaves([some(1)])
    async with exporting(long, leaves, registry) as exporter:
        with pytest.raises(ConfigError, match="more than 65536 bytes"):
            await drained(exporter)
    assert leaves.committed == {FIRST: 0}


def _padded(answer: Any) -> Any:
    answer.body = answer.body * 8192
    return answer


async def test_a_leaf_that_does_not_conform_ends_the_export_behind_those_before_it(registry: Registry) -> None:
    """It is the broker's own mistake; every board's exporter stands there until it is understood."""
    bad = Leaf(FIRST, 2, b'{"ldv":"Emma de Vries"}')
    leaves, collector = MemoryLeaves([[*some(2), bad, *some(3, begin=3)]]), LocalCollector()
    async with exporting(collector, leaves, registry) as exporter:
        with pytest.raises(ConfigError) as caught:
            await drained(exporter)
    assert (caught.value.code, caught.value.offset) == ("ldv.line", 2)
    assert "Emma" not in str(caught.value)
    assert collector.kept == ["0@0", "0@1"]
    assert leaves.committed == {FIRST: 2}


# ---- an end that is asked for


async def test_a_request_under_way_may_be_answered_after_a_stop(registry: Registry) -> None:
    """And is committed then; the rest of the batch waits for the next start."""
    leaves, collector = MemoryLeaves([some(600)]), LocalCollector(hangs=asyncio.Event())
    async with exporting(collector, leaves, registry) as exporter:
        running = asyncio.create_task(exporter.run())
        await collector.came.wait()
        exporter.stop()
        await asyncio.sleep(0.1)  # an exporter that gave the request up at once would have done so
        assert collector.hangs is not None
        collector.hangs.set()
        await asyncio.wait_for(running, 20)
    assert leaves.committed == {FIRST: 500}
    assert collector.sizes == [500]


async def test_a_request_that_is_not_answered_does_not_hold_up_the_end(registry: Registry) -> None:
    """It is given up after a while, and its lines are not committed."""
    leaves, collector = MemoryLeaves([some(1)]), LocalCollector(hangs=asyncio.Event())
    async with exporting(collector, leaves, registry, limits=replace(LIMITS, stop_s=0.05)) as exporter:
        running = asyncio.create_task(exporter.run())
        await collector.came.wait()
        exporter.stop()
        await asyncio.wait_for(running, 20)
    assert leaves.committed == {FIRST: 0}


async def test_a_stop_does_not_wait_for_a_pause(registry: Registry) -> None:
    """A collector may have asked for an hour."""
    leaves, collector = MemoryLeaves([some(1)]), LocalCollector([answers(503, Retry_After="3600")])
    async with exporting(collector, leaves, registry, limits=ExportLimits()) as exporter:
        running = asyncio.create_task(exporter.run())
        await until(lambda: counted(exporter).get('broker_ldv_requests_total{result="busy"}') == 1)
        exporter.stop()
        await asyncio.wait_for(running, 20)
    assert leaves.committed == {FIRST: 0}


# ---- metrics, pauses


async def test_lines_requests_and_lag_are_counted(registry: Registry) -> None:
    """No label comes from a line. At rest the lag is 0, whatever markers of transactions stand there."""
    leaves, collector = (
        MemoryLeaves([[*some(3), a_leaf("o", FIRST, 3, school="99VA")]]),
        LocalCollector([answers(503), taken]),
    )
    async with exporting(collector, leaves, registry) as exporter:
        assert exporter.lag() == {}
        await exporter._export(await leaves.fetch())
        found = counted(exporter)
        assert found['broker_ldv_lag_records{partition="0",topic="audit.events"}'] == 96
        await drained(exporter)
        assert exporter.lag() == {FIRST: 0, SECOND: 0}
    assert found["broker_ldv_lines_total"] == 3
    assert found["broker_ldv_leaves_total"] == 4
    assert found['broker_ldv_requests_total{result="taken"}'] == 1
    assert found['broker_ldv_requests_total{result="busy"}'] == 1


def test_pauses_double_up_to_a_bound_and_a_part_of_them_is_random() -> None:
    """Full jitter; what a collector asks for is the least, up to an hour."""
    pauses = Pauses()
    assert [pauses.before(n, None, lambda: 1.0) for n in (1, 2, 3, 7, 8, 5000)] == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]
    assert pauses.before(3, None, lambda: 0.25) == 0.5
    assert pauses.before(1, 20.0, lambda: 0.0) == 20.0
    assert pauses.before(9, 20.0, lambda: 1.0) == 20.5
    assert pauses.before(1, 10**9, lambda: 0.0) == 3600.0


def test_retry_after_is_seconds_or_a_date() -> None:
    """RFC 9110, section 10.2.3; anything else is as if absent."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 <= (_retry_after(later) or 0) <= 91
    assert _retry_after("Mon, 01 Jan 2001 00:00:00 GMT") == 0
    assert _retry_after(" 7 ") == 7
    assert [_retry_after(text) for text in (None, "", "soon", "-1", "1.5", "9" * 40)] == [None] * 6


# ---- the endpoint


@pytest.mark.parametrize(
    "url",
    ["http://logboek.example/v1/traces", "ftp://logboek.example/", "logboek.example", "https://", "https://h:x/",
     "https://me:s3cret@logboek.example/", "https://logboek.example/?key=s3cret", "https://h/#x", "http://127.1.evil.example/"],
)  # fmt: skip
def test_an_endpoint_that_would_tell_secrets_is_refused(url: str) -> None:
    """Http to another machine, a login in the address; what was given is not repeated."""
    with pytest.raises(ConfigError) as caught:
        Endpoint.of(url)
    assert caught.value.code == "ldv.endpoint"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:4318/v1/traces", "http://localhost/", "http://[::1]:4318/"])
def test_http_on_this_machine_is_allowed(url: str) -> None:
    """A collector beside us passes the lines on over TLS."""
    assert Endpoint.of(url).url == url


def test_http_elsewhere_needs_a_word_that_says_what_it_is() -> None:
    """And https verifies, always."""
    assert Endpoint.of("http://logboek.example/", insecure_plaintext=True).context is None
    context = Endpoint.of("https://logboek.example/", insecure_plaintext=True).context
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


async def test_a_certificate_that_is_not_trusted_ends_it_before_anything_is_sent(tmp_path: Path) -> None:
    """With the authority that signed it given, the same collector takes the line."""
    authority = DevelopmentCA(tmp_path / "pki")
    authority.prepare()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.issue_broker(1))
    collector, request = LocalCollector(), request_of([line_of(written()[0])])
    async with listening(collector, context):
        async with Collector(Endpoint.of(collector.url)) as sender:
            with pytest.raises(ConfigError, match="--ca-file") as caught:
                await sender.send(request)
        assert collector.requests == []
        async with Collector(Endpoint.of(collector.url, ca_file=authority.ca_file)) as sender:
            await sender.send(request)
    assert caught.value.code == "ldv.endpoint"
    assert collector.sizes == [1]


def header_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    """A file of headers."""
    path = folder / "headers"
    path.write_bytes(text.encode("utf-8"))
    path.chmod(mode)
    return path


async def test_headers_of_the_file_are_sent_and_shown_nowhere(registry: Registry, tmp_path: Path) -> None:
    """Such as a token."""
    path = header_file(tmp_path, "# ours\n\nAuthorization: Bearer s3cret x\r\nX-Tenant:7\n")
    collector = LocalCollector()
    async with listening(collector):
        endpoint = Endpoint.of(collector.url, header_file=path)
        async with Collector(endpoint) as sender:
            leaves = MemoryLeaves([some(1)])
            await drained(Exporter(leaves, sender, FixedRegistry(registry), HORIZON, ExportMetrics(), LIMITS))
    assert collector.headers[0]["Authorization"] == "Bearer s3cret x"
    assert collector.headers[0]["X-Tenant"] == "7"
    assert "s3cret" not in repr(endpoint)


@pytest.mark.parametrize(
    "text", ["s3cret", "A b: s3cret", "Content-Type: s3cret", "X: s3cret\x00", "X: s3cret-é", ": s3cret", "X:"]
)
def test_a_header_file_that_is_wrong_is_told_by_its_line(tmp_path: Path, text: str) -> None:
    """Never with what stands in it."""
    with pytest.raises(ConfigError) as caught:
        headers_of(header_file(tmp_path, text))
    assert caught.value.code == "ldv.headers"
    assert "s3cret" not in str(caught.value)


def test_a_header_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """As a connection file is; also one that is not there."""
    with pytest.raises(ConfigError, match="chmod 600"):
        headers_of(header_file(tmp_path, "X: y", 0o640))
    with pytest.raises(ConfigError, match="cannot be read"):
        headers_of(tmp_path / "absent")


def test_each_board_has_a_group_of_its_own() -> None:
    """No board's id can be that of the broker's own register."""
    assert len({group_of(None), group_of("own"), group_of(HORIZON)}) == 3
    assert all(group_of(board).startswith("ldv-exporter.") for board in (None, HORIZON))
