"""Alembic revisions of the database; `talkmill migrate` runs them."""
