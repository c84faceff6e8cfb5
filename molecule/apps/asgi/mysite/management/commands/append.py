"""What hooks and timers run: adds a line to a file."""

import os

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    """Add a line."""

    help = "Add a line to STATE/FILE."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the file's name and the words of the line."""
        parser.add_argument("file")
        parser.add_argument("words", nargs="*")

    def handle(self, *arguments: object, file: str, words: list[str], **options: object) -> None:
        """Add the line, with what the environment says of this process."""
        told = os.environ.get("ONLY_APPEND", "")
        with (settings.STATE / file).open("a", encoding="utf-8") as lines:
            lines.write(" ".join([*words, told]).rstrip() + "\n")
