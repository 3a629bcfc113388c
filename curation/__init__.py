"""The curation engine: columns in, columns out; no database, no queue, no HTTP."""
