"""One record as a conversation, whichever form it has."""

from collections.abc import Mapping

from curation.formats.alpaca import ALPACA, is_alpaca, parse_alpaca
from curation.formats.encodings import RecordError
from curation.formats.messages import Record, kind_of, parse_turns, turns_key
from curation.formats.roles import Speakers


def parse_record(value: object, speakers: Speakers, given: Mapping[str, str], form: str) -> Record:
    """Reads a conversation from a file whose records have mostly the form `form`.

    Raises:
        RecordError: naming the field and what it should be.
    """
    if not isinstance(value, dict):
        raise RecordError(f"the record is a JSON {kind_of(value)}, not an object with `messages`")
    if turns_key(value, given) is None and (form == ALPACA or is_alpaca(value, given)):
        return parse_alpaca(value, given)
    return parse_turns(value, speakers, given)
