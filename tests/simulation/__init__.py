"""A deterministic simulation of the whole data plane: see README.md in this folder."""
