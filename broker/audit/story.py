"""The story of one event in plain sentences, from its leaves: who, when, what was decided and on what; never a value.

Names of attributes are those of the schema, as the leaf has them. What a leaf does not say is not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from broker.audit.coordinates import Coordinates, is_time, parsed, shown
from broker.exchange.keys import BROKER
from broker.exchange.outcomes import CODES

BROKER_ITSELF: Final = ("vault", "registry")  # receivers that are no parties


class Told(Protocol):
    """A leaf and what is known of it."""

    @property
    def leaf(self) -> Coordinates:
        """What it says."""

    @property
    def entry(self) -> bytes | None:
        """Itself."""

    @property
    def status(self) -> str:
        """Whether it was proven."""


def story(leaves: Sequence[Told]) -> list[str]:
    """Sentences about one event.

    Args:
        leaves: all that speak of it, in the order of time; at least one.
    """
    sentences, before = [], None
    for told in leaves:
        content = parsed(told.entry or b"") or {"ldv": {}, "x": {}}
        x, source = content["x"], _place(content["x"].get("in"))
        if source != before or before is None:
            sentences.append(_sent(told.leaf, x, source, content["ldv"].get("start_time")))
            before = source
        sentences += [*_decided(told.leaf, x), f"  This leaf is {told.status}."]
    return sentences


def _sent(leaf: Coordinates, x: dict[str, Any], source: str | None, start: Any) -> str:
    what = " ".join(word for word in (leaf.family, leaf.kind) if word) or "an event whose kind could not be read"
    school = f" of school {leaf.school}" if leaf.school else ""
    where = f" It stood at {source}." if source else ""
    when = f" The broker took it up at {_time(start)}." if is_time(start) else ""
    if leaf.sender == BROKER:
        return f"The broker itself told {what}{school}, event {leaf.event}.{where}{when}"
    first = _place(x.get("replay_of"))
    replay = f" It is a replay of the record at {first}, which stood in quarantine." if first else ""
    return f"{leaf.sender} sent {what}{school}, event {leaf.event}.{where}{when}{replay}"


def _decided(leaf: Coordinates, x: dict[str, Any]) -> list[str]:
    """What was decided, on what, and what of it went to the receiver."""
    to = leaf.receiver
    party = f"to {to}" if to and to not in BROKER_ITSELF else "in the broker itself"
    about = f" for {to}" if to else ""
    head = {
        "delivered": f"It was delivered {party}",
        "refused": f"It was refused{about}",
        "quarantined": f"It was put into quarantine{about or ', and nobody received it'}",
        "duplicate": f"It was a repetition of what was sent before{about}, so nothing was delivered again",
        "parked": "It waits: nothing was decided yet",
        "expired": "It had waited for an enrolment, which did not come in time; nobody received it",
    }.get(leaf.decision, f"It was decided{about}: {leaf.decision}")
    process = f" in the process {leaf.process}" if leaf.process else ""
    sentences = [f"  {_time(leaf.time)}: {head}{process}. {_code(leaf.code)}"]
    agreement, policy, field, rule = (_word(x.get(name)) for name in ("agreement", "policy", "field", "rule"))
    if agreement:
        sentences.append(f"  It rests on the agreement {agreement}.")
    why = " and ".join(text for text in (rule and f"the rule {rule}", field and f"the field {field}") if text)
    if why:
        sentences.append(f"  It was decided by {why}.")
    if policy:
        sentences.append(f"  The policy was {policy}, the registry {_word(x.get('registry')) or 'not named'}.")
    for name, sentence in (("kept", "The receiver got"), ("dropped", "The receiver did not get")):
        if isinstance(x.get(name), list):
            sentences.append(f"  {sentence}: {', '.join(filter(None, map(_word, x[name]))) or 'nothing'}.")
    if isinstance(x.get("exceptions"), list) and x["exceptions"]:
        sentences.append(
            f"  Temporary exceptions let attributes pass: {', '.join(filter(None, map(_word, x['exceptions'])))}."
        )
    if "closing" in x:
        sentences.append("  A gate was closed by then; since this event closes what was open before, it still passed.")
    return sentences


def _code(code: str) -> str:
    meaning = CODES.get(code)
    return f"Code {code}." if meaning is None else f"Code {code}: {meaning.sentence}"


def _place(where: Any) -> str | None:
    if not isinstance(where, dict):
        return None
    topic, partition, offset = (where.get(name) for name in ("topic", "partition", "offset"))
    if not isinstance(topic, str) or not isinstance(partition, int) or not isinstance(offset, int):
        return None
    return f"{shown(topic)}/{partition}@{offset}"


def _word(value: Any) -> str | None:
    return shown(value) if isinstance(value, str) else None


def _time(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
