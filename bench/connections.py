"""The registry view of a country: a million connections of 8,000 schools, that is two million sides.

Twenty SIS products, 300 publishers and 12 portals; two publishers are connected everywhere, so the longest list of
links from one party has 16,000. Building it, what it takes in memory, what the gates ask of it, and what one changed
side costs: that is what stands between a school's withdrawal and the moment it counts (P7).
"""

from __future__ import annotations

import cProfile
import gc
import os
import pstats
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from broker.policy import Policy, Routes
from broker.policy.document import canonical
from broker.registry import POLICY_KEY, ROUTES_KEY, Registry

OF_A_SCHOOL: Final = 125
SIS_PRODUCTS, PUBLISHERS, PORTALS, EVERYWHERE = 20, 300, 12, 2
LOOKUPS: Final = 100_000
CHANGES: Final = 60
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Link = tuple[str, str, str, str]  # sender, receiver, service, process


class Records(Mapping[str, bytes]):
    """The country's registry records, each made when it is asked for: what is measured is not their memory."""

    def __init__(self, connections: int) -> None:
        self.schools = max(1, connections // OF_A_SCHOOL)
        self.base = _base(self.schools)

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._all())

    def __len__(self) -> int:
        return len(self.base) + 2 * OF_A_SCHOOL * self.schools

    def __getitem__(self, key: str) -> bytes:
        if key in self.base:
            return self.base[key]
        _, name, side = key.split("/")
        school, _, number = name.removeprefix("c-").partition("-")
        return side_record(int(school), int(number), side)

    def items(self) -> Any:
        """In the order of the topic: who is who, then both sides of each connection."""
        return self._all()

    def _all(self) -> Iterator[tuple[str, bytes]]:
        yield from self.base.items()
        for school in range(self.schools):
            for number in range(OF_A_SCHOOL):
                for side in ("sender", "receiver"):
                    yield f"connection/c-{school}-{number}/{side}", side_record(school, number, side)


class Pauses:
    """A callback of the garbage collector that counts what it costs.

    Attributes:
        cpu_s: of all collections. full: how many were of all generations.
    """

    def __init__(self) -> None:
        self.cpu_s, self.full, self._began = 0.0, 0, 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.process_time()
        else:
            self.cpu_s += time.process_time() - self._began
            self.full += info["generation"] == 2


def run(count: int = 1_000_000) -> dict[str, Any]:
    """Measure with so many connections."""
    records = Records(count)
    began, cpu = time.monotonic(), time.process_time()
    size = sum(len(value) for _, value in records.items())
    made_s, made_cpu_s = time.monotonic() - began, time.process_time() - cpu
    gc.collect()
    before, pauses = _rss_mib(), Pauses()
    gc.callbacks.append(pauses)
    began, cpu = time.monotonic(), time.process_time()
    registry = Registry.from_records(records)
    built_s, built_cpu_s = time.monotonic() - began, time.process_time() - cpu
    gc.callbacks.remove(pauses)
    garbage = gc.collect()
    after = _rss_mib()
    result: dict[str, Any] = {
        "connections": records.schools * OF_A_SCHOOL,
        "records": len(records),
        "records_mib": size / 2**20,
        "build_s": built_s - made_s,
        "build_cpu_s": built_cpu_s - made_cpu_s,
        "build_collecting_cpu_s": pauses.cpu_s,
        "build_full_collections": pauses.full,
        "making_the_records_s": made_s,
        "rss_mib": after - before,
        "peak_rss_mib": _peak_mib(),
        "bytes_per_side": (after - before) * 2**20 / len(records),
    }
    result |= _lookups(registry, records.schools)
    result |= _changes(registry, records.schools)
    return result | _collections(registry, garbage) | _copy(records)


def _collections(registry: Registry, garbage: int) -> dict[str, Any]:
    """A full garbage collection with the registry in sight, and after `gc.freeze()`, as a worker does it.

    Args:
        garbage: what a collection right after the building found: without one, freezing keeps it for ever.
    """
    result: dict[str, Any] = {"garbage_of_building": garbage}
    for name in ("full", "frozen"):
        if name == "frozen":
            gc.freeze()
        began, cpu = time.perf_counter(), time.process_time()
        gc.collect()
        result[f"{name}_collection_ms"] = (time.perf_counter() - began) * 1000
        result[f"{name}_collection_cpu_ms"] = (time.process_time() - cpu) * 1000
    result["frozen_objects"] = gc.get_freeze_count()
    gc.unfreeze()
    assert registry.version
    return result


def _lookups(registry: Registry, schools: int) -> dict[str, float]:
    rng = random.Random(1)
    asked = []
    for _ in range(LOOKUPS):
        school, number = rng.randrange(schools), rng.randrange(OF_A_SCHOOL)
        asked.append((school_id(school), *link(school, number), None))
    began = time.perf_counter()
    answers = [registry.connected(*question) for question in asked]
    hit_us = (time.perf_counter() - began) / LOOKUPS * 1e6
    assert all(answers)
    wrong = [(school, receiver, sender, *rest) for school, sender, receiver, *rest in asked]
    began = time.perf_counter()
    answers = [registry.connected(*question) for question in wrong]
    miss_us = (time.perf_counter() - began) / LOOKUPS * 1e6
    assert not any(answers)
    parties = list(registry.parties)
    longest = max(len(registry.links_from(party)) for party in parties)
    began = time.perf_counter()
    for number in range(LOOKUPS):
        registry.links_from(parties[number % len(parties)])
    from_us = (time.perf_counter() - began) / LOOKUPS * 1e6
    return {
        "connected_us": hit_us,
        "not_connected_us": miss_us,
        "links_from_us": from_us,
        "longest_links_from": longest,
    }


def _changes(registry: Registry, schools: int) -> dict[str, Any]:
    """One side revoked, in schools at random; of an ordinary publisher, and of one that is connected everywhere."""
    rng, measured, spent = random.Random(2), dict[str, list[float]](), dict[str, list[float]]()

    def one(number: int) -> Callable[[], Registry]:
        school = rng.randrange(schools)
        key = f"connection/c-{school}-{number}/sender"
        change = {key: side_record(school, number, "sender", state="revoked")}
        return lambda: registry.with_changes(change)

    for name, number in (("ordinary", EVERYWHERE), ("everywhere", 0)):
        measured[name], spent[name] = [], []
        for _ in range(CHANGES):
            work, before = one(number), registry.version
            began, cpu = time.perf_counter(), time.process_time()
            changed = work()
            measured[name].append((time.perf_counter() - began) * 1000)
            spent[name].append((time.process_time() - cpu) * 1000)
            assert changed.version != before
            del changed
    mandate = {f"school/{school_id(0)}": school_record(0, sis="sis-1")}
    began = time.perf_counter()
    moved = registry.with_changes(mandate)
    mandate_ms = (time.perf_counter() - began) * 1000
    assert not moved.connected(school_id(0), *link(0, 0), None)
    profile = cProfile.Profile()
    for work in [one(0) for _ in range(CHANGES)]:
        profile.runcall(work)
    return {
        "change_ms": {name: statistics.median(ms) for name, ms in measured.items()},
        "change_cpu_ms": {name: statistics.median(ms) for name, ms in spent.items()},
        "change_most_ms": {name: max(ms) for name, ms in measured.items()},
        "change_sis_ms": mandate_ms,
        "profile": _profile(profile),
        "measured_ms": measured,
        "measured_cpu_ms": spent,
    }


def _profile(profile: cProfile.Profile) -> list[dict[str, Any]]:
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows: list[dict[str, Any]] = [
        {
            "function": name if path == "~" else f"{path.rpartition('/')[2]}:{name}",
            "ms_per_change": cumulative / CHANGES * 1000,
            "own_ms_per_change": own / CHANGES * 1000,
        }
        for (path, _, name), (_, _, own, cumulative, _) in stats.items()
    ]
    return sorted(rows, key=lambda row: -row["own_ms_per_change"])[:15]


def _copy(records: Records) -> dict[str, float]:
    """A copy of all records by key, as a view that keeps them would make: cost by their number, not their bytes."""
    held = dict.fromkeys(records, b"")
    copies = []
    for _ in range(5):
        began = time.perf_counter()
        copy = dict(held)
        copies.append((time.perf_counter() - began) * 1000)
        del copy
    return {"copy_of_all_records_ms": statistics.median(copies)}


# ---- the country


def _base(schools: int) -> dict[str, bytes]:
    names = [*(f"sis-{n}" for n in range(SIS_PRODUCTS)), *(f"uitgever-{n}" for n in range(PUBLISHERS))]
    names += [f"portaal-{n}" for n in range(PORTALS)]
    roles = {"sis": "SIS", "uitgever": "PUBLISHER", "portaal": "PORTAL"}
    entries: dict[str, Any] = {
        f"party/{name}": {
            "id": name, "name": name, "roles": [roles[name.partition("-")[0]]], "covenant": "geen", "keys": [],
            "processor_url": f"https://{name}.example/",
        }
        for name in names
    }  # fmt: skip
    entries["board/bestuur"] = {"id": "bestuur", "name": "Bestuur", "processing_register": "https://bestuur.example/"}
    found = {key: canonical(entry) for key, entry in entries.items()}
    found |= {f"school/{school_id(n)}": school_record(n) for n in range(schools)}
    return found | {POLICY_KEY: Policy.load().record(), ROUTES_KEY: Routes.load().record()}


def school_id(number: int) -> str:
    """A BRIN."""
    high, low = divmod(number, 26 * 26)
    return f"{high:02}{_LETTERS[low // 26]}{_LETTERS[low % 26]}"


def school_record(number: int, **changes: Any) -> bytes:
    """A school."""
    entry = {
        "id": school_id(number), "name": f"School {number}", "board": "bestuur", "sectors": ["PO"],
        "sis": f"sis-{number % SIS_PRODUCTS}", "mandated_from": "2024-08-01",
    }  # fmt: skip
    return canonical(entry | changes)


def link(school: int, number: int) -> Link:
    """What the school's connection of this number is for: usage to a portal, results to the SIS, rosters."""
    sis, portal = f"sis-{school % SIS_PRODUCTS}", f"portaal-{number % PORTALS}"
    if number >= OF_A_SCHOOL - 5:
        return sis, portal, "roster", "Toegang"
    which = number // 2
    if which >= EVERYWHERE:
        which = EVERYWHERE + (school * 61 + which) % (PUBLISHERS - EVERYWHERE)
    publisher = f"uitgever-{which}"
    return (publisher, sis, "result", "Terugkoppelen") if number % 2 else (publisher, portal, "usage", "Gebruik")


def side_record(school: int, number: int, side: str, state: str = "accepted") -> bytes:
    """One side of a connection, accepted by the school's SIS for its party."""
    sender, receiver, service, process = link(school, number)
    sis = f"sis-{school % SIS_PRODUCTS}"
    return (
        f'{{"accepted_by":"{sis}","at":"2026-07-{1 + number % 28:02}T10:00:00Z","id":"c-{school}-{number}",'
        f'"mandate":"{sis}","process":"{process}","products":"all","receiver":"{receiver}",'
        f'"school":"{school_id(school)}","sender":"{sender}","service":"{service}","side":"{side}","state":"{state}"}}'
    ).encode()


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * _PAGE / 2**20


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def rows(r: dict[str, Any]) -> list[tuple[str, str]]:
    """The table."""
    change = {
        name: f"{ms:.1f} ms (CPU {r['change_cpu_ms'][name]:.1f}, most {r['change_most_ms'][name]:.1f})"
        for name, ms in r["change_ms"].items()
    }
    parts = [
        (f"  {row['function']}"[:58], f"{row['own_ms_per_change']:.2f} ms own") for row in r["profile"][:6]
    ]  # fmt: skip
    return [
        ("connections, records", f"{r['connections']:,}, {r['records']:,} ({r['records_mib']:,.0f} MiB)"),
        ("from_records", f"{r['build_s']:.0f} s ({r['records'] / r['build_s']:,.0f} records/s)"),
        ("  of its CPU, garbage collection",
         f"{r['build_collecting_cpu_s']:.1f} of {r['build_cpu_s']:.1f} s, {r['build_full_collections']} of all"),
        ("memory, peak", f"{r['rss_mib']:,.0f}, {r['peak_rss_mib']:,.0f} MiB; {r['bytes_per_side']:.0f} bytes a side"),
        ("connected(), on and not on", f"{r['connected_us']:.1f} us, {r['not_connected_us']:.1f} us"),
        (f"links_from(), the longest {r['longest_links_from']:,}", f"{r['links_from_us']:.2f} us"),
        ("with_changes of one side", change["ordinary"]),
        ("  of a sender with most links", change["everywhere"]),
        ("with_changes of a school's SIS", f"{r['change_sis_ms']:.1f} ms"),
        ("a full garbage collection", f"{r['full_collection_ms']:,.0f} ms (CPU {r['full_collection_cpu_ms']:,.0f})"),
        ("  once the registry is frozen",
         f"{r['frozen_collection_ms']:,.1f} ms (CPU {r['frozen_collection_cpu_ms']:,.1f})"),
        ("  garbage that building left", f"{r['garbage_of_building']:,} objects"),
        ("a copy of all records, by number", f"{r['copy_of_all_records_ms']:.0f} ms"),
        *parts,
    ]  # fmt: skip
