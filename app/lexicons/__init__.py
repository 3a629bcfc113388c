"""Word lists, versioned by name."""
