"""The class lists: the administrations tell the broker's vault who goes to which school."""

from __future__ import annotations

import json
from dataclasses import replace

from broker.cli.connect import identity_events
from broker.connectors import edexml
from broker.demo import story
from broker.demo.telling import Chapter, Counts, Year
from broker.errors import BrokerError


async def play(year: Year) -> Chapter:
    """Three schools, four class lists: the sector belongs to the enrolment, not to the school.

    Raises:
        BrokerError: `demo.class_list`.
    """
    chapter = Chapter("June", "who goes to which school")
    rows = []
    for one in story.class_lists():
        report = edexml.check(one.file)
        if report.problems:
            raise BrokerError(f"{one.file.name} has problems", code="demo.class_list")
        # The file names the year that it was exported for; the demo plays in the year that it is.
        events = identity_events(one.file, one.school, one.sector, year.school_year)
        what = f"enrolment at {one.school} ({one.sector})"
        told = await year.chain.send_all(one.sis, [(what, replace(e, created=year.now)) for e in events])
        place = one.school, one.sector
        year.people[place], year.staff[place] = story.people(one), story.people(one, "leerkracht")
        counted = json.loads(report.to_json())
        year.class_lists[f"{one.school}/{one.sector}"] = counted
        enrolled = sum(t.codes == {"ok.vault"} for t in told)
        rows.append((
            f"{one.school}, {one.sector}", one.file.name, one.sis, counted["pupils"], counted["teachers"],
            counted["without_eck_id"], counted["pgn_dropped"], enrolled,
        ))  # fmt: skip
    columns = (
        "school, sector",
        "class list",
        "sent by",
        "pupils",
        "staff",
        "no ECK iD",
        "PGNs dropped",
        "in the vault",
    )
    chapter.counts = Counts(columns, rows)
    chapter.said = [
        "Two administrations send their class lists (EDEXML). The broker keeps local id, ECK iD and sector; no names.",
        "A number of the state (PGN) in a file never leaves the connector. No other party gets any of this.",
    ]
    return chapter
