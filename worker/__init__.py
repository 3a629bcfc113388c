"""Work in the background: leases, shards, training jobs."""
