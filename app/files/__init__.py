"""Uploads: OpenAI File objects, their bytes, their quarantine."""
