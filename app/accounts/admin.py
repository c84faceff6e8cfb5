"""The admin's pages for users and their welcome emails."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.http import HttpRequest

from accounts.models import User, WelcomeEmail


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    """Django's own page for users; a user made here gets an email address too."""

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


@admin.register(WelcomeEmail)
class WelcomeEmailAdmin(admin.ModelAdmin):
    """The outbox, to look at."""

    list_display = ["user", "created_at", "enqueued_at", "sent_at"]
    list_filter = [("sent_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only a registration writes a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: WelcomeEmail | None = None) -> bool:
        """Only the tasks change one."""
        return False
