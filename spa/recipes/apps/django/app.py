"""Django's admin behind auth-gateway, in one file: `python app.py migrate`, `python app.py runserver PORT`."""

import os
import sys

import django
from django.conf import settings

settings.configure(
    DEBUG=True,
    SECRET_KEY=os.environ["DJANGO_SECRET_KEY"],
    # The gateway sends the Host that people use; it lets through only those of its routes.
    ALLOWED_HOSTS=["*"],
    # The scheme that people use, as the gateway says; nothing else reaches this port.
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        f"{__name__}.GatewayUserMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    AUTHENTICATION_BACKENDS=[f"{__name__}.GatewayUserBackend"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DJANGO_DATABASE"]}},
    STATIC_URL="static/",
)
django.setup()

from django.contrib import admin  # noqa: E402: Django has to be set up first
from django.contrib.auth.backends import RemoteUserBackend  # noqa: E402
from django.contrib.auth.middleware import RemoteUserMiddleware  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class GatewayUserMiddleware(RemoteUserMiddleware):
    header = "HTTP_X_AUTH_USER"


class GatewayUserBackend(RemoteUserBackend):
    """Makes users on their first visit, and gives them the rights of their roles on every one."""

    def configure_user(self, request, user, created=True):
        roles = request.META.get("HTTP_X_AUTH_ROLES", "").split(",")
        user.is_staff = "staff" in roles or "admin" in roles
        user.is_superuser = "admin" in roles
        user.save(update_fields=["is_staff", "is_superuser"])
        return user


def hello(request):
    return HttpResponse(f"Hello {request.user.get_username()}")


urlpatterns = [path("", hello), path("admin/", admin.site.urls)]

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
