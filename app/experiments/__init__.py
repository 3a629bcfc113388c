"""Experiments: the same training over a grid of settings, and what may be concluded from it."""
