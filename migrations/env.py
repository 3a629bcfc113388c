"""Alembic's entry: the service's own engine and metadata."""

from alembic import context

from app.db import get_engine
from app.models import Base

with get_engine().connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
