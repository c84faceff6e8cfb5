"""Views of the accounts application; login and logout are Django's own."""

from django.contrib import messages
from django.contrib.auth import login
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts.forms import RegistrationForm
from accounts.services import register_user


@sensitive_post_parameters()
@never_cache
def register(request: HttpRequest) -> HttpResponse:
    """Register a user and log them in."""
    if request.user.is_authenticated:
        return redirect("blog:home")
    form = RegistrationForm(request.POST or None)
    if form.is_valid():
        try:
            user = register_user(form=form)
        except IntegrityError:
            # Someone took the name or the address since the form was checked: check again, and say it.
            form = RegistrationForm(request.POST)
        else:
            login(request, user)
            messages.success(request, f"Welcome, {user.get_username()}. An email to you is on its way.")
            return redirect("blog:home")
    return render(request, "accounts/register.html", {"form": form})
