"""What can be wrong with a user's input.

CurationError
├── InputError    a whole file cannot be read
└── RecipeError   a recipe cannot work
"""


class CurationError(ValueError):
    """A user's mistake; the message says what is wrong and the way out, without quoting more than a name."""


class InputError(CurationError):
    """A file that cannot be read at all; single bad records are quarantined instead."""


class RecipeError(CurationError):
    """A recipe that cannot work."""

    def __init__(
        self, message: str, *, index: int | None = None, operator: str | None = None, field: str | None = None
    ):
        super().__init__(message)
        self.index = index
        """Position in `operators`."""
        self.operator = operator
        self.field = field

    @property
    def param(self) -> str:
        """Where in the recipe it is wrong, as in `operators[1].mask`."""
        where = "operators" if self.index is None else f"operators[{self.index}]"
        return where if self.field is None else f"{where}.{self.field}"
