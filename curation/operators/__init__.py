"""The operators, one file each, named after its kind. To add one, write its file and name it here."""

KINDS = (
    "classify_text",
    "deduplicate",
    "limit_repeats",
    "match_sensitive_words",
    "normalize_text",
    "redact_personal_data",
    "score_reward",
    "smooth_disfluency",
    "structure_dialogue",
    "tag_users",
    "truncate_history",
)
