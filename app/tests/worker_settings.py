"""Settings of the worker processes that the tests start: as deployed, but for what they would wait for."""

import os

from config.settings import *  # noqa: F403 -- all of them
from config.settings import CELERY_BROKER_TRANSPORT_OPTIONS

CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_QUEUE"]
CELERY_IMPORTS = ["tests.worker_tasks"]
CELERY_TASK_ANNOTATIONS = {"*": {"default_retry_delay": 1}}
# What is to be redelivered is so after some seconds, and its keys are this run's own. A task that reaches its limit is
# not redelivered, so even on a busy machine none may.
CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT = 8, 9
CELERY_BROKER_TRANSPORT_OPTIONS |= {
    "visibility_timeout": 10,
    "unacked_restore_interval": 0.5,
    # Held by whoever looks for such messages: also by one that is killed then.
    "unacked_mutex_expire": 1,
    "unacked_key": f"{CELERY_TASK_DEFAULT_QUEUE}-unacked",
    "unacked_index_key": f"{CELERY_TASK_DEFAULT_QUEUE}-unacked-index",
    "unacked_mutex_key": f"{CELERY_TASK_DEFAULT_QUEUE}-unacked-mutex",
}
