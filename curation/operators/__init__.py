"""The operators, one file each, named after its kind. To add one, write its file and import it here."""

from curation.operators import (
    classify_text,
    match_sensitive_words,
    normalize_text,
    smooth_disfluency,
    structure_dialogue,
    tag_users,
    truncate_history,
)

__all__ = [
    "classify_text",
    "match_sensitive_words",
    "normalize_text",
    "smooth_disfluency",
    "structure_dialogue",
    "tag_users",
    "truncate_history",
]
