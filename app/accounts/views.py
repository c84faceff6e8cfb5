"""Views of the accounts application; login and logout are Django's own."""

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import digests
from accounts.forms import ProfileForm, RegistrationForm
from accounts.models import User
from accounts.services import register_user, update_profile


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


@never_cache
@login_required
def profile(request: HttpRequest) -> HttpResponse:
    """Let users change what the site knows about them."""
    # The form writes to its instance even when it refuses the input: not to the user whom the page greets.
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=request.user.pk))
    if request.method != "POST":
        return render(request, "accounts/profile.html", {"form": form})
    if not form.is_valid():
        return render(request, "accounts/profile.html", {"form": form}, status=422)
    try:
        update_profile(form=form)
    except IntegrityError:
        # Someone took the address since the form was checked.
        form.add_error("email", "A user with that email address already exists.")
        return render(request, "accounts/profile.html", {"form": form}, status=422)
    messages.success(request, "Your profile is saved.")
    return redirect("accounts:profile")


# A mail program has no cookie and no token of a form; the signature in the address is what it proves itself by.
@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """End the digest of the user whom the address was made for.

    Only a POST does so, be it of the page's button or of a mail program's (RFC 8058): what looks through mails follows
    their links.
    """
    user = digests.subscriber(token=token)
    if user is None:
        raise Http404
    if request.method == "POST":
        User.objects.filter(pk=user.pk).update(wants_digest=False)
    return render(request, "accounts/unsubscribe.html", {"done": request.method == "POST"})
