"""Tests of the audit's query service."""
