"""What a conversation tells of its user: one module a field, `frame` decides whether something is asserted of oneself."""
