"""The pages of the lab. Figures are measured when somebody asks for them, shown, and forgotten."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import sqlparse
from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from lab.measure import CannotMeasure, Comparison, Figures
from lab.techniques import BY_SLUG, TECHNIQUES, measure

View = Callable[..., HttpResponse]

STATEMENTS_SHOWN = 8


def for_whom_the_settings_say(view: View) -> View:
    """Open a view to everybody, to staff or to nobody, by the setting LAB."""
    staff_only = staff_member_required(view)

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if settings.LAB == "OFF":
            raise Http404("The lab is off.")
        return (view if settings.LAB == "PUBLIC" else staff_only)(request, *args, **kwargs)

    return wrapper


@require_safe
@for_whom_the_settings_say
def index(request: HttpRequest) -> HttpResponse:
    """List the techniques."""
    return render(request, "lab/index.html", {"techniques": TECHNIQUES})


@require_http_methods(["GET", "HEAD", "POST"])
@for_whom_the_settings_say
@csrf_protect
def technique(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a technique with its code, and measure it when asked to."""
    if slug not in BY_SLUG:
        raise Http404("No such technique.")
    shown = BY_SLUG[slug]
    context: dict[str, Any] = {"technique": shown, "metrics": [], "statements": [], "failure": None}
    if request.method != "POST":
        return render(request, "lab/technique.html", context)
    try:
        comparison = measure(shown)
    except CannotMeasure as error:
        return render(request, "lab/technique.html", {**context, "failure": error}, status=409)
    context |= {
        "ratio": comparison.ratio,
        "runs": comparison.naive.runs,
        "metrics": metrics(comparison),
        "statements": [("naive", statements(comparison.naive)), ("optimised", statements(comparison.optimised))],
    }
    return render(request, "lab/technique.html", context)


def metrics(comparison: Comparison) -> list[tuple[str, list[tuple[str, str, float]]]]:
    """Return for each figure its name and for each way: the way's name, the value in words, and its share of 100."""

    def rows(attribute: str, words: Callable[[Any], str]) -> list[tuple[str, str, float]]:
        values = {"naive": getattr(comparison.naive, attribute), "optimised": getattr(comparison.optimised, attribute)}
        longest = max(values.values()) or 1
        return [(way, words(value), round(100 * value / longest, 2)) for way, value in values.items()]

    return [
        ("Total time", rows("total_ms", "{:,.2f} ms".format)),
        ("Time in the database", rows("database_ms", "{:,.2f} ms".format)),
        ("Queries", rows("queries", "{:,}".format)),
        ("Read from the database", rows("bytes_read", filesizeformat)),
        ("Size of the answer", rows("bytes_answered", filesizeformat)),
    ]


def statements(figures: Figures) -> list[tuple[int, str]]:
    """Return the statements that were made most, with how often."""
    most = sorted(figures.statements.items(), key=lambda statement: -statement[1])[:STATEMENTS_SHOWN]
    # A list of a hundred ids is as long as the rest of the page.
    shortened = [(times, re.sub(r"%s(, %s){3,}", "%s, ...", sql)) for sql, times in most]
    return [(times, sqlparse.format(sql, reindent=True, keyword_case="upper")) for times, sql in shortened]
