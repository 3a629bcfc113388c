"""Redact personal data: phones, cards, addresses and the like, under placeholders that stay the same in a conversation.

The operator looks at distinct texts and says where which data stands; its placeholders are numbered afterwards, by
conversation, since the same number is the same person's in all of its turns.
"""

from typing import Literal

import polars as pl
from pydantic import Field

from curation.draft import Draft
from curation.operator import PROPOSALS, OperatorConfig, Resources, operator
from curation.personal import KINDS, Finding, Kind, find_personal
from curation.personal.masks import mask
from curation.personal.signs import may_hold

LABELS: dict[Kind, str] = {
    "phone": "PHONE",
    "identity_card": "ID_CARD",
    "bank_card": "BANK_CARD",
    "email": "EMAIL",
    "ip": "IP",
    "vehicle_plate": "PLATE",
    "address": "ADDRESS",
    "passport": "PASSPORT",
}
TAKEN = r"\[([A-Z_]+)_(\d{1,9})\]"
"""A placeholder that is in a text already."""


class RedactPersonalData(OperatorConfig):
    """Redacts phone numbers, identity and bank cards, e-mail, IP, vehicle plates, precise addresses and passports."""

    kinds: tuple[Kind, ...] = Field(default=KINDS, min_length=1)
    """What to redact."""
    style: Literal["placeholder", "mask", "remove"] = "placeholder"
    """placeholder: [PHONE_1], the same for the same number in all turns of a conversation.
    mask: 138****8000. remove: nothing stands in its place."""
    learn_masked: bool = False
    """Learn replies that were redacted; otherwise they stay as context."""


def number_placeholders(proposed: pl.DataFrame, turns: pl.DataFrame, config: RedactPersonalData) -> pl.DataFrame:
    """Turns what a proposal found into its placeholder; numbers go up in the order of a conversation's turns.

    `proposed` has the rows of `turns` and, as replacement, the value found. Numbers that stand in the conversation
    already, from an earlier redaction, are not given again.
    """
    if config.style != "placeholder" or proposed.is_empty():
        return proposed
    places = turns.select("row", "conversation", "text")
    found = proposed.join(places.drop("text"), on="row", maintain_order="left")
    found = found.with_columns(label=pl.col("code").replace_strict(LABELS, return_dtype=pl.String))
    key = ["conversation", "label", "replacement"]
    values = found.unique(key, keep="first", maintain_order=True).select(key)
    values = values.with_columns(nth=pl.int_range(1, pl.len() + 1).over("conversation", "label"))
    numbered = found.join(values, on=key, maintain_order="left")
    numbered = numbered.join(
        _last_taken(places, found), on=["conversation", "label"], how="left", maintain_order="left"
    )
    number = pl.col("nth") + pl.col("taken").fill_null(0)
    shown = pl.concat_str(pl.lit("["), "label", pl.lit("_"), number, pl.lit("]"))
    return numbered.with_columns(replacement=shown).select(PROPOSALS.names())


def _last_taken(places: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The highest number of each label's placeholders that stand in the conversations concerned."""
    held = places.join(found.select("conversation").unique(), on="conversation", how="semi")
    held = held.filter(pl.col("text").str.contains(TAKEN))
    each = held.select("conversation", pl.col("text").str.extract_all(TAKEN)).explode("text")
    return (
        each.select(
            "conversation",
            label=pl.col("text").str.extract(TAKEN, 1),
            taken=pl.col("text").str.extract(TAKEN, 2).cast(pl.Int64),
        )
        .group_by("conversation", "label")
        .agg(pl.col("taken").max())
    )


@operator(
    kind="redact_personal_data",
    version=1,
    scope="turn",
    config=RedactPersonalData,
    reads=("text",),
    codes={
        "phone": "a phone number: mobile, landline, service line or international",
        "identity_card": "a number of a Chinese identity card, by checksum and birthday",
        "bank_card": "a number of a bank card, by Luhn's check and issuer",
        "email": "an e-mail address",
        "ip": "an IP address",
        "vehicle_plate": "a vehicle's plate",
        "address": "an address precise to a house",
        "passport": "a passport's number, where it is called so",
    },
    settle=number_placeholders,
)
def redact_personal_data(turns: pl.DataFrame, config: RedactPersonalData, resources: Resources) -> pl.DataFrame:
    """Proposes a mask for each finding; in the style `placeholder` its replacement is the value found."""
    rows = []
    for row, text in turns.filter(may_hold(turns["text"])).select("row", "text").iter_rows():
        if config.style == "remove":
            edits = _removed(text, config)
        else:
            edits = [
                (one.start, one.end, _shown(text, one, config), one.kind) for one in find_personal(text, config.kinds)
            ]
        rows += [(row, "mask", start, end, new, code, None) for start, end, new, code in edits]
    return pl.DataFrame(rows, PROPOSALS, orient="row")


def _shown(text: str, found: Finding, config: RedactPersonalData) -> str:
    return found.value if config.style == "placeholder" else mask(text[found.start : found.end], found.kind)


def _removed(text: str, config: RedactPersonalData) -> list[tuple[int, int, str, str]]:
    """Edits that leave nothing to be found, even where what is left meets."""
    draft = Draft(text)
    while found := find_personal(draft.text, config.kinds):
        for one in reversed(found):
            draft.delete(one.start, one.end, one.kind)
    return draft.edits()
