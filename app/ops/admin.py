"""What the pages of the admin have in common."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


class Site(admin.AdminSite):
    """Django's admin, whose list of recent actions leaves the hashes of passwords in the database."""

    def get_log_entries(self, request: HttpRequest) -> QuerySet[Any]:
        """Fetch the actions with their users."""
        return super().get_log_entries(request).defer("user__password")


class LeanAdmin(admin.ModelAdmin):
    """Pages of a model whose lists fetch the columns that they show, and no others.

    Its lists are that of the rows, that which a search field of another page offers (autocomplete), and that of the
    changes of a row.
    """

    # Also of related rows, as author__name. None are all.
    list_only: Sequence[str] | None = None
    # Of large tables counting all rows beside those found takes long.
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        """Fetch for lists only what they show, for the page of a row all of it."""
        rows, here = super().get_queryset(request), request.resolver_match
        if self.list_only and here and (here.url_name or "").endswith(("_changelist", "autocomplete")):
            rows = rows.only(*self.list_only)
        return rows

    def history_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        """Fetch the changes of a row without the hashes of their users' passwords."""
        response = super().history_view(*args, **kwargs)
        if isinstance(response, TemplateResponse):
            page = response.context_data["action_list"]
            page.object_list = page.object_list.defer("user__password")
        return response
