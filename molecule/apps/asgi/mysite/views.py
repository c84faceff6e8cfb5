"""Views that wait without holding a process."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.templatetags.static import static

from mysite import celery, files
from mysite.models import Note

# Seconds for a task to be done; Nginx and the tests wait longer.
RESULT_TIMEOUT = 120


async def index(request: HttpRequest) -> HttpResponse:
    """Return a page that names a static file."""
    return HttpResponse(f'<h1>Asynchronous</h1><link rel="stylesheet" href="{static("mysite/site.css")}">')


async def alive(request: HttpRequest) -> HttpResponse:
    """Answer the health check; with nothing, which is 204."""
    return HttpResponse(status=204)


async def notes(request: HttpRequest) -> JsonResponse:
    """Keep the note that is posted, and return all."""
    if request.method == "POST":
        await Note.objects.acreate(text=request.body.decode())
    return JsonResponse({"notes": [note.text async for note in Note.objects.order_by("pk")]})


async def keep(request: HttpRequest) -> JsonResponse:
    """Write what is posted to files, here and by a worker, and return their paths."""
    text = request.body.decode()
    result = await sync_to_async(celery.keep.apply_async)([text], queue="quick")
    files_of_both = await sync_to_async(files.keep)(text) + await sync_to_async(result.get)(timeout=RESULT_TIMEOUT)
    return JsonResponse({"files": files_of_both})


async def pieces(request: HttpRequest) -> StreamingHttpResponse:
    """Return five lines, one every 0.4 s: the time at which each was made."""

    async def lines() -> AsyncIterator[str]:
        for _ in range(5):
            yield f"{time.time()}\n"
            await asyncio.sleep(0.4)

    return StreamingHttpResponse(lines(), content_type="text/plain")


_waiting = 0


async def slow(request: HttpRequest) -> JsonResponse:
    """Answer after 2 s, with the number of requests that waited in this process when this one came, itself included."""
    global _waiting
    _waiting += 1
    found = _waiting
    await asyncio.sleep(2)
    _waiting -= 1
    return JsonResponse({"waiting": found})


async def told(request: HttpRequest) -> JsonResponse:
    """Return what the inventory told this process: by the environment, and by files."""
    files = [settings.BASE_DIR / "told.txt", Path("/etc/mysite.conf")]
    return JsonResponse(
        {
            "environment": {name: os.environ.get(name) for name in ("ODD_VALUE", "ONLY_WEB")},
            "files": {file.name: file.read_text(encoding="utf-8") for file in files},
        }
    )


async def worker(request: HttpRequest, queue: str) -> JsonResponse:
    """Return the name of the worker that takes tasks from `queue`."""
    result = await sync_to_async(celery.where.apply_async)(queue=queue)
    return JsonResponse({"worker": await sync_to_async(result.get)(timeout=RESULT_TIMEOUT)})
