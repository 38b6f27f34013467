"""Tests of the look ahead."""
