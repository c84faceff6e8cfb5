"""Forms of the accounts application."""

from typing import Any

from django import forms
from django.contrib.auth.forms import UserCreationForm

from accounts.models import User
from blog.models import Author


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


class ProfileForm(forms.ModelForm):
    """What users change about themselves; whoever writes for the magazine has a text about them too."""

    bio = forms.CharField(label="About you", required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 5}))

    class Meta:
        model = User
        fields = ["first_name", "last_name", "email", "wants_digest"]
        widgets = {
            "first_name": forms.TextInput(attrs={"autocomplete": "given-name"}),
            "last_name": forms.TextInput(attrs={"autocomplete": "family-name"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Require the address; offer the text to authors only."""
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True
        self.author = Author.objects.filter(user=self.instance).first()
        if self.author:
            self.fields["bio"].initial = self.author.bio
        else:
            del self.fields["bio"]
