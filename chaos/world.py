"""Who takes part in a hostile run: the example registry with many more schools, and their pupils. All invented."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Final, Literal

from broker.client import Event, Identity, Progress, Subject, Usage
from broker.client.records_material import new_id
from broker.registry.models import RegistryDocument

SIS: Final = "sis-noord"
PUBLISHERS: Final = {"uitgeverij-delta": "8717927130834", "uitgeverij-west": "2099000000019"}
PORTAL, SHOP = "portaal-plein", "winkel-boekhuis"
MODEL_SCHOOL: Final = "99PA"
MODEL_LINKS: Final = ("po-usage-delta-", "po-usage-west-")
LETTERS: Final = "ABCDEFGHIJKLNOQRSTUWXYZ"  # the second of a BRIN; none of the example's

Naming = Literal["local", "eck", "both"]
ALL_WAYS: Final[tuple[Naming, ...]] = ("local", "both", "local", "eck")


@dataclass(frozen=True, slots=True)
class Pupil:
    """Somebody who does not exist.

    Args:
        naming: how publishers speak of him.
        comes: whether he is ever enrolled; what is about him waits if he never is.
    """

    school: str
    number: int
    naming: Naming
    comes: bool

    @property
    def name(self) -> str:
        """In the history."""
        return f"{self.school}/{self.number}"

    @property
    def ids(self) -> tuple[tuple[str, str], ...]:
        """Under which his school knows him."""
        return (("LAS_KEY", f"L{self.number:05}"),)

    @property
    def eck_id(self) -> str:
        """Of no real pupil: `pilot` names the chain's test environment."""
        return "https://ketenid.nl/pilot/" + sha256(self.name.encode()).hexdigest() * 2

    @property
    def subject(self) -> Subject:
        """As publishers speak of him."""
        eck_id = None if self.naming == "local" else self.eck_id
        return Subject("PUPIL", eck_id, () if self.naming == "eck" else self.ids)


def schools(count: int) -> list[str]:
    """BRINs; such as begin with 99 are for tests."""
    return [f"99{first}{second}" for first in LETTERS for second in LETTERS][:count]


def pupils(count_of_schools: int, per_school: int) -> list[Pupil]:
    """All pupils; of each fiftieth no school ever says anything, so those must be named by local ids."""
    found, ways = list[Pupil](), ALL_WAYS
    for school in schools(count_of_schools):
        for number in range(per_school):
            comes = len(found) % 50 != 49
            found.append(Pupil(school, number, ways[len(found) % len(ways)] if comes else "local", comes))
    return found


def with_schools(document: RegistryDocument, names: list[str]) -> RegistryDocument:
    """The document with these schools too: each as the model school, with its links for usage."""
    model = next(school for school in document.schools if school.id == MODEL_SCHOOL)
    links = [side for side in document.connections if side.id.startswith(MODEL_LINKS) and side.school == MODEL_SCHOOL]
    more = tuple(model.model_copy(update={"id": name, "name": f"School {name}"}) for name in names)
    sides = tuple(
        side.model_copy(update={"id": link_of(side.id, name), "school": name}) for name in names for side in links
    )
    return document.model_copy(update={"schools": document.schools + more, "connections": document.connections + sides})


def link_of(model: str, school: str) -> str:
    """The id of a school's own link."""
    return f"{model}-{school.lower()}"


def enrolment(pupil: Pupil) -> Event:
    """He comes to his school."""
    subject = Subject("PUPIL", pupil.eck_id, pupil.ids)
    return Event(kind="ENROL", school=pupil.school, sector="PO", subject=subject, body=Identity())


def usage(pupil: Pupil, publisher: str, number: int) -> Event:
    """He used something; some of it is for one receiver only."""
    progress = number % 5 == 0
    body = Usage(
        entitlement_id=new_id(), product_id=PUBLISHERS[publisher], usage_type="WEEKLY_USAGE", usage_date=today(),
        progress=Progress(status="STARTED") if progress else None, frequency=number % 40 + 1,
    )  # fmt: skip
    receiver = PORTAL if number % 7 == 0 else None
    kind = "PROGRESS" if progress else "USE"
    return Event(kind=kind, school=pupil.school, sector="PO", receiver=receiver, subject=pupil.subject, body=body)


def today() -> date:
    """In UTC."""
    return datetime.now(UTC).date()
