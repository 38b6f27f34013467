"""Connectors: from a school administration's standards to identity events."""
