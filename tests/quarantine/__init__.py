"""Tests of `broker.quarantine`."""
