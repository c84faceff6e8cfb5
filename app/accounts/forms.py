"""Forms of the accounts application."""

from typing import Any

from django import forms
from django.contrib.auth.forms import UserCreationForm

from accounts.models import User


class RegistrationForm(UserCreationForm):
    """Django's form for a new user, with an email address that is required."""

    class Meta(UserCreationForm.Meta):
        model = User
        fields = ["username", "email"]

        widgets = {"email": forms.EmailInput(attrs={"autocomplete": "email"})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Require the address, which the model leaves open."""
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True
