"""The admin's pages for users and the outboxes of emails to them."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.http import HttpRequest

from accounts.models import DigestEmail, OutboxEmail, User, WelcomeEmail
from ops.admin import LeanAdmin


@admin.register(User)
class UserAdmin(LeanAdmin, DjangoUserAdmin):
    """Django's own page for users; a user made here gets an email address too."""

    fieldsets = (*DjangoUserAdmin.fieldsets, ("Emails", {"fields": ("wants_digest",)}))
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": ("username", "email", "usable_password", "password1", "password2"),
            },
        ),
    )
    date_hierarchy = "date_joined"
    list_only = DjangoUserAdmin.list_display


@admin.register(WelcomeEmail, DigestEmail)
class OutboxEmailAdmin(LeanAdmin):
    """An outbox, to look at."""

    list_display = ["user", "created_at", "enqueued_at", "sent_at"]
    list_filter = [("sent_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    list_only = ["user__username", "created_at", "enqueued_at", "sent_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only a registration and the nightly task write a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: OutboxEmail | None = None) -> bool:
        """Only the tasks change one."""
        return False
