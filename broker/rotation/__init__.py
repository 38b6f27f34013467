"""Replacing the broker's own keys while everything runs: what `broker keys rotate` does (docs/adr/0019)."""
