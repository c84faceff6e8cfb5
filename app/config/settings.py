"""Django settings, driven by the environment: safe by default, and refused when incomplete.

Every variable is listed in README.md. Each may also be given as NAME_FILE, the path of a file that holds it.
"""

from importlib.util import find_spec
from pathlib import Path

from celery.schedules import crontab
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

from config.env import Environment, runs_on_gevent

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment()

# --- What must be said ------------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG", default=False)
SECRET_KEY = env.text("SECRET_KEY", required=True)
# What was signed with these is accepted too, so that a change of the key ends nobody's session.
SECRET_KEY_FALLBACKS = env.names("SECRET_KEY_FALLBACKS")
# With DEBUG, Django itself admits localhost when the list is empty.
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS", required=not DEBUG)
CSRF_TRUSTED_ORIGINS = env.names("CSRF_TRUSTED_ORIGINS")

# --- The application --------------------------------------------------------------------------------------

SITE_NAME = "Slipway"
# How others reach the site, for links in mails: a task has no request that would tell it.
SITE_URL = env.origin("SITE_URL")

INSTALLED_APPS = [
    "accounts",
    "blog",
    "lab",
    "ops.apps.OpsConfig",
    "shop",
    "ops.apps.OpsAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

# The order decides what a shared cache sees. A response passes this list from the bottom up, and a
# middleware that makes a page personal adds its header to Vary on the way:
# - SessionMiddleware adds `Vary: Cookie` only when the session was read, so it stands outside everything
#   that reads it (messages, authentication, views). A page that never asks who is there stays the same for
#   all and carries no `Vary`.
# - CsrfViewMiddleware adds `Vary: Cookie` only where a template asked for the token, hence forms are shown
#   only to those who may send them.
# - SecurityMiddleware stands outside the sessions: a redirect to HTTPS reads no session, so it never varies.
#   CommonMiddleware checks the Host of each request, /healthz included.
# - CachePolicyMiddleware is outermost, where all cookies and Vary are complete and no answer escapes it.
# There is no GZipMiddleware: Nginx compresses, and static files are compressed once, when they are deployed.
MIDDLEWARE = [
    "ops.http.CachePolicyMiddleware",
    "ops.http.ContentSecurityPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "ops.context_processors.site",
            ],
        },
    },
]

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

# --- Database ---------------------------------------------------------------------------------------------

DATABASES = {
    "default": {
        **env.database("DATABASE_URL"),
        # Each thread keeps its connection. Under gevent each request is a greenlet of its own, which would
        # leave its connection open and to nobody.
        "CONN_MAX_AGE": 0 if runs_on_gevent() else env.number("DB_CONN_MAX_AGE", default=60),
        # A connection that PostgreSQL closed (it was restarted) is replaced, not handed to the next request.
        "CONN_HEALTH_CHECKS": True,
        # Through a pool such as PgBouncer a connection is another one in the next transaction, where the cursor is not.
        "DISABLE_SERVER_SIDE_CURSORS": env.flag("DB_POOLED", default=False),
    }
}
# A host that does not answer is given up soon: the request fails with a clear error instead of holding its
# worker.
DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 3)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Cache ------------------------------------------------------------------------------------------------

# What a page asks of a Redis, it can do without.
PAGE_REDIS_OPTIONS = {
    # Waiting for a cache longer than the query that it saves would take is no use.
    "socket_connect_timeout": 0.3,
    "socket_timeout": 0.3,
    # One more try, at once, for a pooled connection that a restart of Redis left dead; none for a Redis that does not
    # answer.
    "retry": Retry(NoBackoff(), retries=1, supported_errors=(ConnectionError,)),
}
CACHE_URL = env.redis("CACHE_URL")
CACHES = {
    "default": {
        # Django's Redis backend, with its connection pool; a Redis that is down counts as a miss (see the
        # class). With DEBUG somebody works on the pages and wants to see them as they are now.
        "BACKEND": "django.core.cache.backends.dummy.DummyCache" if DEBUG else "ops.cache.FailOpenRedisCache",
        "LOCATION": CACHE_URL,
        "KEY_PREFIX": "slipway",
        "OPTIONS": PAGE_REDIS_OPTIONS,
    }
}

# --- Celery -----------------------------------------------------------------------------------------------

CELERY_BROKER_URL = env.redis("CELERY_BROKER_URL")
CELERY_RESULT_BACKEND = env.redis("CELERY_RESULT_BACKEND")
CELERY_RESULT_EXPIRES = 24 * 60 * 60
CELERY_TIMEZONE = TIME_ZONE
CELERY_ENABLE_UTC = True

# A task gets SoftTimeLimitExceeded first, so that it can put things right; its process is killed at the
# hard limit.
CELERY_TASK_SOFT_TIME_LIMIT = 240
CELERY_TASK_TIME_LIMIT = 300

# A message is acknowledged when its task has ended, and comes back when the worker was lost: at least once,
# so every task has to be idempotent. A task whose process died (killed, out of memory) is sent again like a
# retry, which counts: one that kills each process that runs it ends after its max_retries. Should that
# sending fail, the message goes back to the queue.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_RETRY_ON_WORKER_LOST = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# The wait before such a task runs again; by default three minutes. A task may set its own.
CELERY_TASK_ANNOTATIONS = {"*": {"default_retry_delay": 5}}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_TIMEOUT = 1
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # When a worker vanished with its whole tree, Redis holds its messages as `unacked` for this long before
    # another worker gets them. It has to be longer than the longest task and the longest countdown, or
    # tasks run twice (ops.E001).
    "visibility_timeout": 600,
    # Look for such messages every 30 seconds. The defaults look at every tenth of 10-second rounds.
    "unacked_restore_interval": 30,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 1,
    "socket_timeout": 2,
    "socket_keepalive": True,
}
# A request that sends a task must not wait for a broker that is gone: one try more, then OperationalError.
CELERY_TASK_PUBLISH_RETRY_POLICY = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 0.2,
}
CELERY_REDIS_SOCKET_CONNECT_TIMEOUT = 1
CELERY_REDIS_SOCKET_TIMEOUT = 5
CELERY_REDIS_SOCKET_KEEPALIVE = True

# SIGTERM lets running tasks end; when SIGQUIT follows, they still get this long, and what has not ended
# goes back to the queue.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 10
CELERY_WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

CELERY_BEAT_SCHEDULE = {
    "clear-expired-sessions": {
        "task": "ops.tasks.clear_expired_sessions",
        "schedule": crontab(hour=3, minute=17),
    },
    "enqueue-waiting-thumbnails": {"task": "blog.tasks.enqueue_waiting_thumbnails", "schedule": 300.0},
    "flush-product-views": {"task": "shop.tasks.flush_product_views", "schedule": 60.0},
    # When the day is over: the digest tells what was published until then.
    "promise-digests": {"task": "accounts.tasks.promise_digests", "schedule": crontab(hour=0, minute=7)},
    "send-pending-emails": {"task": "accounts.tasks.send_pending_emails", "schedule": 60.0},
}

# --- The lab ----------------------------------------------------------------------------------------------

# Who may measure: nobody, those who may enter the admin, or everybody, which is for demonstrations.
LAB = env.choice("LAB", default="OFF", choices=("OFF", "STAFF", "PUBLIC"))

# --- Users ------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "blog:home"
LOGOUT_REDIRECT_URL = "blog:home"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Email ------------------------------------------------------------------------------------------------

globals().update(env.email("EMAIL_URL", default="smtp://localhost:25"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("DEFAULT_FROM_EMAIL", default="webmaster@localhost")

# --- Static files and media -------------------------------------------------------------------------------

STATIC_URL = env.folder_url("STATIC_URL", default="/static/")
STATIC_ROOT = env.text("STATIC_ROOT") or None
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_URL = env.folder_url("MEDIA_URL", default="/media/")
MEDIA_ROOT = env.text("MEDIA_ROOT")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Names carry a fingerprint of the content, so a server may let them be kept for ever. With DEBUG nothing is
    # collected, and there is no manifest of names.
    "staticfiles": {
        "BACKEND": f"django.contrib.staticfiles.storage.{'' if DEBUG else 'Manifest'}StaticFilesStorage",
    },
}

# --- HTTPS ------------------------------------------------------------------------------------------------

HTTPS = env.flag("HTTPS", default=True)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
# No script of the site reads the token from the cookie: forms carry it, the admin's too.
CSRF_COOKIE_HTTPONLY = True
# Without HTTPS browsers ignore this header, and say so on each page as an error.
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin" if HTTPS else None
# Probes speak plain HTTP to the server's own socket; a redirect would tell them nothing.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
if HTTPS:
    # The proxy in front sets this header on every request, whatever the client sent.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.number("HSTS_SECONDS", default=365 * 24 * 60 * 60)
# Strict Transport Security for all subdomains, and for ever by the browsers' lists, binds hosts that are
# not this application's: the owner of the domain decides that.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

# --- Logging ----------------------------------------------------------------------------------------------

# To standard error, without a time: the journal has one.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {
        "handlers": ["stderr"],
        "level": env.choice("LOG_LEVEL", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    },
    # Django's own handlers would write the same lines again, and mail errors to nobody.
    "loggers": {"django": {"handlers": []}},
}

# --- Tools, where their packages are installed -------------------------------------------------------------

# On a laptop: what a page did, shown at its side. Hosts have neither DEBUG nor the package.
if DEBUG and find_spec("debug_toolbar"):
    INSTALLED_APPS.append("debug_toolbar")
    MIDDLEWARE.insert(1, "debug_toolbar.middleware.DebugToolbarMiddleware")
    INTERNAL_IPS = ["127.0.0.1"]

# On a host that is looked into: of so many requests in a hundred, the time and the queries are recorded.
SILK_PERCENT = env.number("SILK_PERCENT", default=0, most=100)
if find_spec("silk"):
    # Also while nothing is recorded, so that the tables and static files are there when SILK_PERCENT is set.
    INSTALLED_APPS.append("silk")
    SILKY_INTERCEPT_PERCENT = SILK_PERCENT
    SILKY_AUTHENTICATION = SILKY_AUTHORISATION = True  # for staff only
    SILKY_MAX_RECORDED_REQUESTS = 1000
    # Probes use no database; recording does.
    SILKY_IGNORE_PATHS = ["/healthz", "/readyz"]
    # No bodies, which hold passwords and what is meant for one reader, and no queries with session keys or hashes of
    # passwords in them: whoever reads the records could be whom they belong to. Cookies are masked by Silk itself.
    SILKY_MAX_REQUEST_BODY_SIZE = SILKY_MAX_RESPONSE_BODY_SIZE = 0
    SILKY_IGNORE_QUERIES = ['"django_session"', '"password"']
    if SILK_PERCENT:
        MIDDLEWARE.insert(1, "silk.middleware.SilkyMiddleware")
elif SILK_PERCENT:
    env.faults.append("SILK_PERCENT needs the packages of requirements-profile.txt")

env.refuse_faults()
