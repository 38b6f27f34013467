"""Figures: each a ratio within one run, so that a noisy machine does not decide. Raw numbers go to build/bench/."""
