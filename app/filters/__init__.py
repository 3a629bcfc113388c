"""Filters learned from labelled texts."""
