"""All limits of the exchange in one place, with units in their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one record may ask of us.

    Attributes:
        record_bytes: of a whole input value; below the broker's own `message.max.bytes`.
        subject_bytes: of the sealed subject; far above what `user_ids` ids take, far below what a bomb needs.
        text_chars: of any one string in a body or subject.
        list_items: of any one list.
        user_ids: of one subject.
        enrolment_ids: local ids that one enrolment gathers; each change rewrites all.
        merged_enrolments: that became one with another by MERGE; each leaves a subject key behind.
        envelope_chars: of any one string of the envelope.
        quarantined_bytes: of the value, when the record itself is too large to be quarantined whole; and of subject and
            body, which are quarantined beside it opened.
        quarantined_per_lane: how many records of a lane that were quarantined last can be replayed.
        header_bytes: of all headers together; also of what is quarantined of a record key.
        parked_per_subject, parked_per_lane: events that wait for an identity.
        parked_bytes_per_lane: of their values together; a lane keeps them in memory.
        released_per_batch: parked events that one call releases or ends; the rest is the next call's.
        parked_days: how long they wait, from the day they came, or from the first day of
            their school year if that is later.
        window_slots, window_slot_ids: the duplicate window: the last slots * ids deliveries of a lane.
        object_slots, object_slot_entries: the object memory: the last slots * entries changes of business objects.
        incidents_per_day: different ones that a lane remembers; the rest of a day is one per code and field.
        clock_skew_ms: how far ahead of us a sender's clock may be.
        event_age_days: how old an event may be.
    """

    record_bytes: int = 1_000_000
    subject_bytes: int = 65_536
    text_chars: int = 4_096
    list_items: int = 256
    user_ids: int = 16
    enrolment_ids: int = 32
    merged_enrolments: int = 32
    envelope_chars: int = 128
    quarantined_bytes: int = 65_536
    quarantined_per_lane: int = 4_096
    header_bytes: int = 8_192
    parked_per_subject: int = 100
    parked_per_lane: int = 10_000
    parked_bytes_per_lane: int = 64 << 20
    released_per_batch: int = 500
    parked_days: int = 30
    window_slots: int = 32
    window_slot_ids: int = 256
    object_slots: int = 32
    object_slot_entries: int = 256
    incidents_per_day: int = 500
    clock_skew_ms: int = 300_000
    event_age_days: int = 400


DEFAULT = Limits()
