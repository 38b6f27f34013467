"""Identifiers: their forms, the PGN screen, and the vault that swaps local ids for ECK iDs."""
