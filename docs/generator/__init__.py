"""The pages of the docs that are written by code from what they describe, so that they cannot be out of date."""
