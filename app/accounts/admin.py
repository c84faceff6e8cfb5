"""The admin's pages for users and the outboxes of emails to them."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.http import HttpRequest

from accounts.models import DigestEmail, OutboxEmail, User, WelcomeEmail


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
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
    show_full_result_count = False


@admin.register(WelcomeEmail, DigestEmail)
class OutboxEmailAdmin(admin.ModelAdmin):
    """An outbox, to look at."""

    list_display = ["user", "created_at", "enqueued_at", "sent_at"]
    list_filter = [("sent_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only a registration and the nightly task write a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: OutboxEmail | None = None) -> bool:
        """Only the tasks change one."""
        return False
