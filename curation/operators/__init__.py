"""The operators, one file each, named after its kind. To add one, write its file and import it here."""

from curation.operators import classify_text as classify_text
from curation.operators import deduplicate as deduplicate
from curation.operators import limit_repeats as limit_repeats
from curation.operators import match_sensitive_words as match_sensitive_words
from curation.operators import normalize_text as normalize_text
from curation.operators import redact_personal_data as redact_personal_data
from curation.operators import smooth_disfluency as smooth_disfluency
from curation.operators import structure_dialogue as structure_dialogue
from curation.operators import tag_users as tag_users
from curation.operators import truncate_history as truncate_history
