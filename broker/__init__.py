"""The broker in the Dutch learning-materials chain."""

__version__ = "0.1.0"
