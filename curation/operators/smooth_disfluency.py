"""Smooth spoken language: fillers, repetitions, self-repairs and grammar slips, in Chinese and English.

Precision before recall: correct reduplication (天天, 看看, 研究研究), numbers, real demonstratives (那个套餐) and
emphasis (好好好) stay. Native signs find the texts that may need work, pass by pass; only those are looked at one by one.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import polars as pl
from pydantic import Field

import curation.disfluencies as signs_of
from curation.draft import Draft, Edit
from curation.operator import PROPOSALS, OperatorConfig, Resources, operator
from curation.smoother import Smoother, open_smoother
from curation.smoothing.changes import make_changes
from curation.smoothing.fillers import bare, extra_pattern, fillers
from curation.smoothing.grammar import Change, slips
from curation.smoothing.learned import ScoredEdit, smooth_together
from curation.smoothing.repairs import WORDS_EN, repairs, repetitions_en
from curation.smoothing.repetitions import DOUBLED, EMPHATIC, NEEDED, STUTTERED, Span, repetitions
from curation.smoothing.words import Vocabulary

REPETITION_SIGNS = signs_of.repetitions(STUTTERED, WORDS_EN)
Rule = Callable[[str], Iterable[Span | Change]]
"""What should go in a text, or be replaced."""
MAX_PASSES = 12
TITLE = "《[^《》\n]{1,60}》"
"""Titles are quoted as they are: 《很爱很爱你》."""


class SmoothDisfluency(OperatorConfig):
    """Removes fillers, repetitions, self-repairs and grammar slips of spoken language, in Chinese and English."""

    fillers: bool = True
    """Drop interjections and empty phrases such as 嗯, 呃, 那个，, um, you know. An utterance that is only a filler is
    kept in one canonical form, since it may be an answer."""
    repetitions: bool = True
    """Say once what was stuttered: 我我我想 becomes 我想."""
    repairs: bool = True
    """Keep what the speaker corrected to: 去北京不对去上海 becomes 去上海."""
    grammar: bool = True
    """Mend doubled particles and punctuation, broken measure words (一个只狗), 的 for 得 or 地 where that is certain."""
    roles: tuple[str, ...] = ("user", "assistant")
    """Roles whose turns are smoothed."""
    extra_fillers: tuple[str, ...] = ()
    """Further words to drop where they stand between pauses."""
    keep: tuple[str, ...] = ()
    """Phrases that stay untouched, product names for example."""
    user_words: tuple[str, ...] = ()
    """Words, product names for example, that are never split, nor said once where they stand doubled."""
    smoother: str | None = Field(default=None, min_length=1, max_length=4_096)
    """Id of a trained smoother, on the command line its folder. It decides together with the rules, which stand alone
    where it is not sure."""


@operator(
    kind="smooth_disfluency",
    version=5,
    scope="turn",
    config=SmoothDisfluency,
    reads=("role", "text"),
    codes={
        "filler": "an interjection or an empty phrase; an utterance that is only that, in its one form",
        "repetition": "what was stuttered or begun again, said once",
        "repair": "what the speaker took back, with the words that took it back",
        "grammar": "a slip such as a doubled particle or doubled punctuation",
    },
)
def smooth_disfluency(turns: pl.DataFrame, config: SmoothDisfluency, resources: Resources) -> pl.DataFrame:
    """Proposes the edits of each turn."""
    mine = turns.filter(pl.col("role").is_in(config.roles)).select("row", "text")
    smoother = None if resources.smoother is None else open_smoother(resources.smoother)
    edits = _smoothed(mine, config, smoother)
    rows = [(row, "edit", *edit) for row in sorted(edits) for edit in edits[row]]
    return pl.DataFrame(rows, PROPOSALS, orient="row")


def smooth_texts(texts: Sequence[str], config: SmoothDisfluency, smoother: Smoother | None) -> list[list[ScoredEdit]]:
    """The edits of each of some utterances, by the rules or with a smoother beside them."""
    rows = pl.DataFrame(
        {"row": pl.arange(len(texts), dtype=pl.UInt32, eager=True), "text": pl.Series(texts, dtype=pl.String)}
    )
    edits = _smoothed(rows, config, smoother)
    return [edits.get(row, []) for row in range(len(texts))]


def _smoothed(texts: pl.DataFrame, config: SmoothDisfluency, smoother: Smoother | None) -> dict[int, list[ScoredEdit]]:
    """The edits of texts by row. Rules look only at those with a sign of speech, a smoother at all."""
    rules = Rules.of(config)
    drafts: dict[int, Draft] = {}
    alone: dict[int, Edit] = {}
    open_texts = texts
    for _ in range(MAX_PASSES):
        if open_texts.is_empty():
            break
        signed = _with_signs(open_texts, config)
        is_bare = []
        for row, text in signed.select("row", "text").iter_rows():
            canonical = None if row in drafts else bare(text)
            is_bare.append(canonical is not None)
            if canonical is None:
                drafts.setdefault(row, Draft(text))
            elif _is_mended(text, canonical, config):
                alone[row] = (0, len(text), canonical, "filler")
        tried = signed.filter(~pl.Series(is_bare, dtype=pl.Boolean))
        rows = tried["row"].to_list()
        edited = _pass([drafts[row] for row in rows], {kind: tried[kind].to_list() for kind in SIGNS}, rules)
        changed = [(rows[index], drafts[rows[index]].text) for index in edited]
        open_texts = pl.DataFrame(changed, open_texts.schema, orient="row")
    ruled = {row: _edits(draft) for row, draft in drafts.items()}
    if smoother is None:
        scored: dict[int, list[ScoredEdit]] = {row: [(*edit, None) for edit in edits] for row, edits in ruled.items()}
    else:
        others = {row: text for row, text in texts.iter_rows() if row not in alone and bare(text) is None}
        wanted = [code for code, option in OPTIONS.items() if getattr(config, option)]
        scored = smooth_together(others, ruled, smoother, rules.protect, wanted)
    return scored | {row: [(*edit, None)] for row, edit in alone.items()}


def smooth(text: str, config: SmoothDisfluency) -> list[Edit]:
    """Edits (start, end, replacement, code) that smooth one utterance; offsets into `text`."""
    if (canonical := bare(text)) is not None:
        return [(0, len(text), canonical, "filler")] if _is_mended(text, canonical, config) else []
    draft, rules, signs = Draft(text), Rules.of(config), {kind: [signs_of.EVERY_RULE] for kind in SIGNS}
    for _ in range(MAX_PASSES):
        if not _pass([draft], signs, rules):
            break
    return _edits(draft)


SIGNS = ("repair", "filler", "repetition", "grammar")
"""Kinds of rules, in the order in which they are tried; 要不对, with a filler in it, is a repair."""
OPTIONS = {"repair": "repairs", "filler": "fillers", "repetition": "repetitions", "grammar": "grammar"}


@dataclass(frozen=True)
class Rules:
    """What a config asks for."""

    config: SmoothDisfluency
    of_kind: dict[str, tuple[Rule, ...]]
    protect: re.Pattern[str]

    @classmethod
    def of(cls, config: SmoothDisfluency) -> "Rules":
        """The rules of a config, compiled."""
        kept = "|".join([*map(re.escape, sorted({*config.keep, *config.user_words}, key=len, reverse=True)), TITLE])
        vocabulary = partial(Vocabulary.of, config.user_words)
        of_kind: dict[str, tuple[Rule, ...]] = {
            "repair": (repairs,),
            "filler": (partial(fillers, extra=extra_pattern(config.extra_fillers)),),
            "repetition": (*repetitions(vocabulary), repetitions_en),
            "grammar": (partial(slips, vocabulary=vocabulary),),
        }
        return cls(config, of_kind, re.compile(kept))


def _with_signs(texts: pl.DataFrame, config: SmoothDisfluency) -> pl.DataFrame:
    """Those texts that have signs, each with a column a kind: a number with a bit for each rule that may find something.

    All others have nothing to smooth.
    """
    extra = [re.escape(word) for word in config.extra_fillers]
    written = {
        "repair": signs_of.REPAIRS,
        "filler": [*signs_of.FILLERS, *extra],
        "repetition": [*REPETITION_SIGNS, signs_of.SEVERAL_WORDS],
        "grammar": signs_of.GRAMMAR,
    }
    repeats = signs_of.repeat_han(texts["text"], DOUBLED, EMPHATIC - frozenset(STUTTERED))
    found = texts.with_columns(repeats=repeats).filter(
        repeats | signs_of.hold(texts["text"], chain.from_iterable(written.values()))
    )
    text = found["text"]
    columns = {kind: signs_of.hold(text, written[kind]).cast(pl.Int64) for kind in SIGNS if kind != "repetition"}
    may_repeat = found["repeats"] | signs_of.hold(text, REPETITION_SIGNS) | signs_of.repeat_words(text)
    columns["repetition"] = may_repeat.cast(pl.Int64) * _rules_of_repetition(text)
    signs = pl.any_horizontal(pl.col(SIGNS) != 0)
    return found.with_columns(**columns).filter(signs).select("row", "text", *SIGNS)


def _rules_of_repetition(texts: pl.Series) -> pl.Series:
    """For each text a number with a bit for each rule of repetitions that may find something."""
    english = signs_of.hold(texts, REPETITION_SIGNS[-1:]) | signs_of.repeat_words(texts)
    return signs_of.rules_of_repeats(texts, NEEDED) | english.cast(pl.Int64) * (1 << len(NEEDED))


def _pass(drafts: Sequence[Draft], signs: Mapping[str, Sequence[int]], rules: Rules) -> list[int]:
    """One pass: in each text, the first kind of rules that finds anything. Returns the indexes of the changed texts.

    `signs`: by kind, for each text a number with a bit for each rule; one without a bit would find nothing.
    """
    changed: set[int] = set()
    for code in SIGNS:
        if not getattr(rules.config, OPTIONS[code]):
            continue
        mine = {index: sign for index, sign in enumerate(signs[code]) if sign and index not in changed}
        for bit, rule in enumerate(rules.of_kind[code]):
            edited = []
            for index, sign in mine.items():
                draft = drafts[index]
                if (
                    sign >> bit & 1
                    and (found := list(rule(draft.text)))
                    and make_changes(draft, found, code, rules.protect)
                ):
                    edited.append(index)
            changed.update(edited)
            untold = [index for index in edited if mine[index] != signs_of.EVERY_RULE]
            if untold and code == "repetition":
                texts = pl.Series([drafts[index].text for index in untold], dtype=pl.String)
                mine.update(zip(untold, _rules_of_repetition(texts), strict=True))
    return sorted(changed)


def _is_mended(text: str, canonical: str, config: SmoothDisfluency) -> bool:
    return bool(config.fillers and text != canonical and text.strip())


def _edits(draft: Draft) -> list[Edit]:
    return _capitalise(draft, draft.edits()) if re.search(r"\w", draft.text) else []


def _capitalise(draft: Draft, edits: list[Edit]) -> list[Edit]:
    """An English sentence that lost its first word begins with a capital again."""
    if not edits or edits[0][0] != 0 or not draft.original[0].isupper():
        return edits
    start, end, _, code = edits[0]
    follower = draft.original[end : end + 1]
    if follower.islower() and follower.isascii() and (len(edits) == 1 or edits[1][0] > end):
        return [(start, end + 1, follower.upper(), code), *edits[1:]]
    return edits
