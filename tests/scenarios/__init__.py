"""Scenarios that a domain expert can read: one feature file each, and the words that they are written in."""
