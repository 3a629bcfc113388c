"""`/metrics` for Prometheus: what this process answered, and how the work of the whole service stands.

Labels are routes, kinds and states, never ids, names or texts. Needs no key, so it tells nothing that only a user may
know; keep it from strangers by the proxy in front.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache

from fastapi import Request, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.db import reading
from app.models import Job, Version, Work

log = logging.getLogger(__name__)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RequestMetrics:
    """This process's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "talkmill_requests", "Answers, by route and status.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "talkmill_request_seconds", "Time to the first byte of an answer.", ("method", "route"),
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_Work())

    def note(self, request: Request, status: int, seconds: float) -> None:
        """A request was answered; addresses that are no route count as one."""
        route = getattr(request.scope.get("route"), "path_format", None) or "none"
        self._answers.labels(request.method if route != "none" else "any", route, status).inc()
        self._seconds.labels(request.method if route != "none" else "any", route).observe(seconds)


class _Work(Collector):
    """Asked of the database at every scrape; left out while it is away."""

    def collect(self) -> Iterable[Metric]:
        try:
            yield from self._counts()
        except SQLAlchemyError as error:
            log.warning("no counts of work for /metrics: %s", type(error).__name__)

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that to register it asks no database."""
        return ()

    def _counts(self) -> Iterator[Metric]:
        work = GaugeMetricFamily("talkmill_work", "Background work that is not done.", labels=("kind", "state"))
        jobs = GaugeMetricFamily("talkmill_jobs", "Fine-tuning jobs.", labels=("status",))
        versions = GaugeMetricFamily("talkmill_versions", "Dataset versions.", labels=("status",))
        with reading() as session:
            open_states = ("pending", "leased", "dead")
            grouped = select(Work.kind, Work.state, func.count()).where(Work.state.in_(open_states))
            for kind, state, count in session.execute(grouped.group_by(Work.kind, Work.state)):
                work.add_metric((kind, state), count)
            for status, count in session.execute(select(Job.status, func.count()).group_by(Job.status)):
                jobs.add_metric((status,), count)
            for status, count in session.execute(select(Version.status, func.count()).group_by(Version.status)):
                versions.add_metric((status,), count)
        yield from (work, jobs, versions)


@lru_cache(maxsize=1)
def request_metrics() -> RequestMetrics:
    """This process's metrics."""
    return RequestMetrics()


def metrics() -> Response:
    """The metrics of this process and the state of the service's work, in Prometheus' text format."""
    return Response(generate_latest(request_metrics().registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
