"""The Celery application of the workers: single-process (solo pool), one nudge at a time, a sweeper thread beside.

polars does not survive a fork, so there is no prefork pool: run as many worker processes as wanted.
"""

import logging
import threading
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down

from app.queue import DO_WORK, celery_options
from app.settings import get_settings

log = logging.getLogger(__name__)

celery_app = Celery("talkmill", broker=get_settings().broker_url)
celery_app.conf.update(celery_options(), worker_pool="solo", worker_concurrency=1, task_default_queue="curate")

stopping = threading.Event()
"""Set when this worker has been asked to stop: long work gives its lease back."""


@celery_app.task(name=DO_WORK)
def do_work(work_id: str) -> None:
    """Claims the work row and does it; a nudge for work that is taken or done is dropped."""
    from worker.tasks import do

    do(work_id)


@worker_shutting_down.connect
def _note_shutdown(**_: Any) -> None:
    stopping.set()


@worker_ready.connect
def _start_sweeper(**_: Any) -> None:
    from worker.sweeper import sweep_forever

    threading.Thread(target=sweep_forever, args=(stopping,), name="sweeper", daemon=True).start()
