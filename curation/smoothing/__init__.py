"""The rules of smoothing: what in an utterance is a filler, a repetition or a repair.

Each rule is a pure function from a text to spans (start, end) that should go. Precision before recall: how often each
is right, counted against people's own corrections, is in `docs/quality.md`.
"""
