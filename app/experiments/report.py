"""An experiment's report as a page: HTML that stands alone, or Markdown; and what people said since it was made."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.datasets.report import as_plain_markdown
from app.errors import Conflict
from app.experiments import plots
from app.experiments.conclusions import conclude, of_review, signed
from app.models import FINAL, Experiment, Review
from app.reviews.results import result_of
from app.store import get_store

if TYPE_CHECKING:
    from jinja2 import Environment


def read_report(session: Session, experiment: Experiment) -> dict[str, Any]:
    """The report, with the result of its review as it stands.

    Raises:
        Conflict: the experiment has not succeeded.
    """
    report: dict[str, Any] = _read(experiment, experiment.report_sha256)
    review = None if experiment.review_id is None else session.get(Review, experiment.review_id)
    report["human"] = None
    if review is not None:
        names = [_name_of(report, model) for model in (review.left, review.right)]
        report["human"] = {**result_of(session, review).model_dump(mode="json"), "names": names}
    report["conclusions"] = conclude(report)
    if report["human"] is not None:
        report["conclusions"].append(of_review(report["human"], report["human"]["names"]))
    for run in report["runs"]:
        run["human_win_rate"] = _win_rate(report["human"], run["model"])
    return report


def read_samples(experiment: Experiment) -> list[dict[str, Any]]:
    """Every generated reply beside the one that was given.

    Raises:
        Conflict: the experiment has not succeeded.
    """
    samples: list[dict[str, Any]] = _read(experiment, experiment.samples_sha256)
    return samples


def _read(experiment: Experiment, sha256: str | None) -> Any:
    if sha256 is None:
        detail = f"the experiment is {experiment.status}: its report can be read once it has succeeded"
        raise Conflict(detail, code="not_ready", permanent=experiment.status in FINAL)
    return orjson.loads(get_store().path(sha256).read_bytes())


def _name_of(report: dict[str, Any], model: str) -> str:
    return next((str(run["name"]) for run in report["runs"] if run["model"] == model), model)


def _win_rate(human: dict[str, Any] | None, model: str | None) -> float | None:
    if human is None or human["win_rate"] is None or model not in (human["left"], human["right"]):
        return None
    return float(human["win_rate"] if model == human["left"] else 1 - human["win_rate"])


def render_html(report: dict[str, Any]) -> str:
    """One page without scripts or anything to fetch; every text in it is escaped."""
    return _templates().get_template("report.html.jinja").render(**report, plots=_plots(report))


def render_markdown(report: dict[str, Any]) -> str:
    """The same story in Markdown; texts cannot become markup."""
    return _templates().get_template("report.md.jinja").render(**report)


def _plots(report: dict[str, Any]) -> dict[str, Any]:
    """The page's plots: of each set its differences, and one of the runs' curves."""
    unit = report["unit"]
    of_sets = {
        one["name"]: [
            (title, Markup(plots.differences(rows, axis)))  # noqa: S704  (numbers, and labels that it escapes)
            for title, rows, axis in _forests(one, unit)
        ]
        for one in report["sets"]
    }
    lines = [(run["name"], run["curve"]) for run in report["runs"] if run["curve"]]
    curve = Markup(plots.curves(lines, "tokens trained on", "validation loss")) if lines else None  # noqa: S704
    return {
        "sets": of_sets,
        "curve": curve,
        "legend": [(name, plots.legend_class(n)) for n, (name, _) in enumerate(lines)],
    }


def _forests(one: dict[str, Any], unit: str) -> list[tuple[str, list[dict[str, Any]], str]]:
    pairs = one["comparisons"]
    if not pairs:
        return []
    axis = f"difference in nats a {unit}: left of zero the first one is better"
    losses = [{**pair["loss"], "label": _label(pair)} for pair in pairs]
    found = [("Loss", losses, axis)]
    if one["longer_history"]["compared"]:
        than = one["longer_history"]["than"]
        for name, title in (("loss_longer_history", f"more than {than}"), ("loss_shorter_history", f"at most {than}")):
            rows = [{**pair[name], "label": _label(pair)} for pair in pairs if name in pair]
            if rows:
                found.append((f"Loss of replies after {title} tokens of history", rows, axis))
    for language in sorted({language for pair in pairs for language in pair["bleu"]}):
        rows = [{**pair["bleu"][language], "label": _label(pair)} for pair in pairs if language in pair["bleu"]]
        found.append((f"BLEU ({language})", rows, "difference in BLEU: right of zero the first one is better"))
    return found


def _label(pair: dict[str, Any]) -> str:
    left, right = pair["names"]
    first, second = _without_common(right, left), _without_common(left, right)
    field = first.partition(" ")[0]
    if "," not in first + second and second.startswith(f"{field} "):
        return f"{field}: {first.partition(' ')[2]} − {second.partition(' ')[2]}"
    return f"{first} − {second}"


def _without_common(name: str, other: str) -> str:
    """Those parts of a run's name in which the other one's differs."""
    parts = [part for part in name.split(", ") if part not in other.split(", ")]
    return ", ".join(part.removeprefix("max_") for part in parts) or name


@lru_cache(maxsize=1)
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("app.experiments"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=select_autoescape(["html.jinja"], default=False),
    )  # fmt: skip
    environment.filters |= {
        "md": as_plain_markdown, "num": _number, "signed": signed, "thousands": lambda n: f"{n:,}",
        "megabytes": lambda n: f"{n / 2**20:,.0f} MiB", "percent": lambda share: f"{100 * share:.1f} %",
    }  # fmt: skip
    return environment


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
