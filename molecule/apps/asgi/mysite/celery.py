"""The Celery application, and the one task."""

import celery

app = celery.Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(bind=True)
def where(task: celery.Task) -> str:
    """Return the name of the worker that runs this."""
    return task.request.hostname
