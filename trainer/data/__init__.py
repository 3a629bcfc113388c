"""From a version on disk to packed rows in the order of the run: the split, the token cache, batches."""
