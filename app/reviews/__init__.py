"""Blind reviews: people judge pairs of replies without knowing whose is whose."""
