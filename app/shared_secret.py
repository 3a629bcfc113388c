"""Random secrets that all processes of the service share through the database, each under a name."""

import secrets

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import writing
from app.models import Secret


def shared_secret(session: Session, name: str) -> str:
    """The secret of this name; made by whoever is first to need it."""
    if (known := session.get(Secret, name)) is not None:
        return known.value
    made = Secret(name=name, value=secrets.token_hex(32))
    try:
        with writing() as own:
            own.add(made)
    except IntegrityError:  # another process was first
        with writing() as own:
            return own.get_one(Secret, name).value
    return made.value
