"""The service: HTTP, the record of truth, the console."""
