"""Quarantine for people: what was set aside, what it held, what became of it (`docs/howto/quarantine.md`).

entries   what stands on `quarantine.<party>`: no content
content   what a quarantined record held, opened with a private key and fit to be shown
topic     Kafka: read, replay, drop, and the audit of each
"""
