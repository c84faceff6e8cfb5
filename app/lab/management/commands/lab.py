"""``manage.py lab``: measure the techniques on the site's data."""

import json
import math
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lab.measure import BUDGET_SECONDS, CannotMeasure, Comparison
from lab.techniques import BY_SLUG, TECHNIQUES, measure

HEADINGS = ("", "queries", "database", "total", "read", "answer", "ratio")


def seconds(value: str) -> float:
    """Return a number of seconds given on the command line."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 600:
        raise ArgumentTypeError(f"{value!r} is not a number of seconds from 0 to 600")
    return number


def rows_of(slug: str, comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the two lines of a technique."""
    return [
        (
            f"{slug}, {name}",
            f"{figures.queries:,}",
            f"{figures.database_ms:,.2f} ms",
            f"{figures.total_ms:,.2f} ms",
            f"{figures.bytes_read:,} B",
            f"{figures.bytes_answered:,} B",
            ratio,
        )
        for name, figures, ratio in (
            ("naive", comparison.naive, ""),
            ("optimised", comparison.optimised, f"{comparison.ratio:,.1f}"),
        )
    ]


class Command(BaseCommand):
    """Measure each technique and its naive twin, now and on the site's data."""

    help = "Measure techniques of performance beside their naive twins, on the site's own data. Nothing is changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define what is measured, for how long, and how it is shown."""
        parser.add_argument(
            "techniques", nargs="*", metavar="technique", help=f"all, unless some are named: {', '.join(BY_SLUG)}"
        )
        parser.add_argument("--format", choices=("table", "json"), default="table", help="how to show the figures")
        parser.add_argument(
            "--seconds",
            type=seconds,
            default=BUDGET_SECONDS,
            help=f"for how long each technique is measured again (default {BUDGET_SECONDS:g})",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure, and fail at the end if something could not be."""
        if unknown := [slug for slug in options["techniques"] if slug not in BY_SLUG]:
            raise CommandError(f"There is no technique {', '.join(unknown)}. There are: {', '.join(BY_SLUG)}.")
        if settings.DEBUG:
            self.stderr.write("DEBUG is on: Django notes every query, so the figures are those of development.")
        measured, failures = {}, []
        for technique in [BY_SLUG[slug] for slug in options["techniques"]] or TECHNIQUES:
            try:
                measured[technique.slug] = measure(technique, budget=options["seconds"])
            except CannotMeasure as error:
                failures.append(f"{technique.slug}: {error}")
        self.stdout.write(self.json(measured) if options["format"] == "json" else self.table(measured))
        if failures:
            raise CommandError("\n".join(["Not measured:", *failures]))

    @staticmethod
    def json(measured: dict[str, Comparison]) -> str:
        """Return all figures, the statements too."""
        return json.dumps(
            [{"technique": slug, "ratio": found.ratio, **asdict(found)} for slug, found in measured.items()], indent=2
        )

    @staticmethod
    def table(measured: dict[str, Comparison]) -> str:
        """Return the figures in columns."""
        lines = [HEADINGS, *(row for slug, found in measured.items() for row in rows_of(slug, found))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        template = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])])
        return "\n".join(template.format(*line) for line in lines)
