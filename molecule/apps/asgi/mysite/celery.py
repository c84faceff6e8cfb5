"""The Celery application, and its tasks."""

import celery

app = celery.Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(bind=True)
def where(task: celery.Task) -> str:
    """Return the name of the worker that runs this."""
    return task.request.hostname


@app.task
def keep(text: str) -> list[str]:
    """Write uploads as the web server does."""
    # The settings are there when a task runs.
    from mysite import files

    return files.keep(text)
