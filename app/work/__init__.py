"""Background work that failed for good."""
