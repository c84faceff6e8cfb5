"""The public pages of the magazine."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Prefetch, prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import condition, require_POST, require_safe

from blog import fragments
from blog.forms import CommentForm, SearchForm
from blog.models import LATEST_COMMENTS, Category, Comment, Post, PostQuerySet, Tag
from blog.pagination import paginate
from blog.selectors import category_counts, magazine_in_numbers, popular_tags, post_digest, profile_by_slug
from ops.http import etag, is_personal, shared

POSTS_ON_HOME = 7
POSTS_PER_PAGE = 12
OWN_COMMENTS_ON_HOME = 5
COMMENTS_PER_PAGE = 20


@require_safe
@shared(browser=30, cdn=120)
def home(request: HttpRequest) -> HttpResponse:
    """Show the newest posts, the first one large."""
    posts = list(Post.objects.published().for_cards(comments=0).newest_first()[:POSTS_ON_HOME])
    if posts:
        # The first one shows several comments, the others one.
        latest = Comment.objects.latest_comments(LATEST_COMMENTS, of=posts[0].pk)
        prefetch_related_objects(posts, Prefetch("comments", queryset=latest, to_attr="latest_comments"))
    context = {"lead": posts[0] if posts else None, "posts": posts[1:], "topics": popular_tags}
    if request.user.is_authenticated:
        context["own_comments_generation"] = fragments.generation()
        # Fetched only when the template has no cached fragment for this user.
        context["own_comments"] = Comment.objects.written_by(request.user)[:OWN_COMMENTS_ON_HOME]
    return render(request, "blog/home.html", context)


def _post_list(request: HttpRequest, posts: PostQuerySet, context: dict[str, object]) -> HttpResponse:
    page = paginate(
        posts.published().for_cards(),
        field="published_at",
        cursor=request.GET.get("before"),
        size=POSTS_PER_PAGE,
    )
    defaults = {"kicker": "", "introduction": "", "categories": [], "topics": popular_tags}
    return render(request, "blog/post_list.html", {"page": page, **defaults, **context})


@require_safe
@shared(browser=30, cdn=120, parameters=("before",))
def post_list(request: HttpRequest) -> HttpResponse:
    """List all posts."""
    return _post_list(request, Post.objects.all(), {"heading": "All stories", "categories": category_counts()})


@require_safe
@shared(browser=30, cdn=120, parameters=("before",))
def category(request: HttpRequest, slug: str) -> HttpResponse:
    """List the posts of a category."""
    section = get_object_or_404(Category, slug=slug)
    context = {"heading": section.name, "kicker": "Category", "introduction": section.description}
    return _post_list(request, section.posts.all(), context)


@require_safe
@shared(browser=30, cdn=120, parameters=("q", "before"))
def search(request: HttpRequest) -> HttpResponse:
    """List the posts that match, the newest first.

    Ordered by rank, each page would cost the ranking of all matches. By date, a rare word is found by the
    GIN index, and for a frequent one the list is read from its newest end until the page is full.
    """
    form = SearchForm(request.GET)
    words = form.cleaned_data["q"] if form.is_valid() else ""
    context = {"words": words, "page": None}
    if words:
        posts = Post.objects.search(words).published().for_cards()
        cursor = request.GET.get("before")
        context["page"] = paginate(posts, field="published_at", cursor=cursor, size=POSTS_PER_PAGE)
    return render(request, "blog/search.html", context)


@require_safe
@shared(browser=30, cdn=120, parameters=("before",))
def tag(request: HttpRequest, slug: str) -> HttpResponse:
    """List the posts on a topic."""
    topic = get_object_or_404(Tag, slug=slug)
    return _post_list(request, topic.posts.all(), {"heading": topic.name, "kicker": "Topic"})


@require_safe
@shared(browser=30, cdn=120, parameters=("before",))
def author(request: HttpRequest, slug: str) -> HttpResponse:
    """List an author's posts."""
    profile = profile_by_slug(slug)
    if profile is None:
        raise Http404("No such author.")
    context = {"heading": profile["name"], "kicker": "Author", "introduction": profile["bio"]}
    return _post_list(request, Post.objects.filter(author_id=profile["pk"]), context)


@require_safe
@shared(browser=60, cdn=300, same_for_all=True)
def numbers(request: HttpRequest) -> HttpResponse:
    """Show what the magazine has, month by month, and who is talked about most."""
    return render(request, "blog/numbers.html", magazine_in_numbers())


def _post_page(request: HttpRequest, post: Post, form: CommentForm | None = None, *, status: int = 200) -> HttpResponse:
    comments = paginate(
        post.comments.select_related("user").only("body", "created_at", "post_id", "user__username"),
        field="created_at",
        cursor=request.GET.get("before"),
        size=COMMENTS_PER_PAGE,
    )
    # Only those who may comment get the form, and with it the CSRF cookie.
    if form is None and request.user.is_authenticated:
        form = CommentForm()
    context = {"post": post, "comments": comments, "form": form}
    return render(request, "blog/post.html", context, status=status)


def _validator(request: HttpRequest, slug: str) -> str | None:
    """Return the validator of a post's page, by one query: an unchanged page is neither fetched nor rendered."""
    if is_personal(request):
        return None
    cursor = request.GET.get("before")
    digest = post_digest(slug, cursor=cursor, comments=COMMENTS_PER_PAGE + 1)
    return digest and etag(digest, cursor)


def _post_or_404(slug: str) -> Post:
    """Return a post with all that its page shows."""
    posts = Post.objects.published().select_related("author", "category").prefetch_related("tags")
    return get_object_or_404(posts.defer("searched", "author__bio", "category__description"), slug=slug)


@require_safe
@shared(browser=30, cdn=120, parameters=("before",))
@condition(etag_func=_validator)
def post(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a post with its comments."""
    return _post_page(request, _post_or_404(slug))


@require_POST
@login_required
def comment(request: HttpRequest, slug: str) -> HttpResponse:
    """Add a comment to a post."""
    form = CommentForm(request.POST)
    if not form.is_valid():
        return _post_page(request, _post_or_404(slug), form, status=422)
    commented = get_object_or_404(Post.objects.published().only("slug"), slug=slug)
    form.instance.post = commented
    form.instance.user = request.user
    form.save()
    messages.success(request, "Thank you: your comment is published.")
    return redirect(f"{commented.get_absolute_url()}#comments")
