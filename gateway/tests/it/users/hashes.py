"""Prints NAME<tab>HASH for every kind of password hash that the real libraries make of the password in argv[1]."""

import hmac
import subprocess
import sys

import django.conf
import passlib.hash
import werkzeug.security

PASSWORD = sys.argv[1]
HASHERS = ["PBKDF2PasswordHasher", "PBKDF2SHA1PasswordHasher", "Argon2PasswordHasher", "BCryptPasswordHasher",
           "BCryptSHA256PasswordHasher", "ScryptPasswordHasher", "MD5PasswordHasher"]
django.conf.settings.configure(PASSWORD_HASHERS=[f"django.contrib.auth.hashers.{name}" for name in HASHERS])
from django.contrib.auth.hashers import make_password  # noqa: E402  (needs the settings)


def program(*words):
    """What a program prints, without the NAME: of htpasswd."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip().removeprefix("x:")


kinds = {
    "werkzeug-scrypt": werkzeug.security.generate_password_hash(PASSWORD),
    "werkzeug-scrypt-long-salt": werkzeug.security.generate_password_hash(PASSWORD, "scrypt:16384:8:2", 40),
    "werkzeug-pbkdf2-sha256": werkzeug.security.generate_password_hash(PASSWORD, "pbkdf2:sha256:1000"),
    "werkzeug-pbkdf2-sha1": werkzeug.security.generate_password_hash(PASSWORD, "pbkdf2:sha1:1000"),
    "werkzeug-pbkdf2-sha512": werkzeug.security.generate_password_hash(PASSWORD, "pbkdf2:sha512:1000"),
    **{f"django-{name}": make_password(PASSWORD, hasher=name) for name in
       ["pbkdf2_sha256", "pbkdf2_sha1", "argon2", "bcrypt", "bcrypt_sha256", "scrypt"]},
    "passlib-pbkdf2-sha1": passlib.hash.pbkdf2_sha1.using(rounds=1000).hash(PASSWORD),
    "passlib-pbkdf2-sha256": passlib.hash.pbkdf2_sha256.using(rounds=1000).hash(PASSWORD),
    "passlib-pbkdf2-sha512": passlib.hash.pbkdf2_sha512.using(rounds=1000).hash(PASSWORD),
    "passlib-bcrypt": passlib.hash.bcrypt.using(rounds=5).hash(PASSWORD),
    "passlib-bcrypt-2a": passlib.hash.bcrypt.using(rounds=5, ident="2a").hash(PASSWORD),
    "passlib-bcrypt-2y": passlib.hash.bcrypt.using(rounds=5, ident="2y").hash(PASSWORD),
    "passlib-bcrypt-sha256": passlib.hash.bcrypt_sha256.using(rounds=5).hash(PASSWORD),
    "passlib-bcrypt-sha256-v1": passlib.hash.bcrypt_sha256.using(rounds=5, version=1).hash(PASSWORD),
    "passlib-scrypt": passlib.hash.scrypt.using(rounds=10).hash(PASSWORD),
    "passlib-argon2id": passlib.hash.argon2.using(type="ID", memory_cost=1024).hash(PASSWORD),
    "passlib-argon2i": passlib.hash.argon2.using(type="I", memory_cost=1024).hash(PASSWORD),
    "passlib-argon2d": passlib.hash.argon2.using(type="D", memory_cost=1024).hash(PASSWORD),
    "passlib-sha256-crypt": passlib.hash.sha256_crypt.using(rounds=1234).hash(PASSWORD),
    "passlib-sha512-crypt": passlib.hash.sha512_crypt.using(rounds=5000).hash(PASSWORD),
    "passlib-md5-crypt": passlib.hash.md5_crypt.hash(PASSWORD),
    "passlib-ldap-salted-sha1": passlib.hash.ldap_salted_sha1.hash(PASSWORD),
    "passlib-ldap-pbkdf2-sha1": passlib.hash.ldap_pbkdf2_sha1.using(rounds=1000).hash(PASSWORD),
    "passlib-ldap-pbkdf2-sha256": passlib.hash.ldap_pbkdf2_sha256.using(rounds=1000).hash(PASSWORD),
    "passlib-ldap-pbkdf2-sha512": passlib.hash.ldap_pbkdf2_sha512.using(rounds=1000).hash(PASSWORD),
    "passlib-ldap-salted-sha256": passlib.hash.ldap_salted_sha256.hash(PASSWORD),
    "passlib-ldap-salted-sha512": passlib.hash.ldap_salted_sha512.hash(PASSWORD),
    # werkzeug's own method of its versions before 3, which tutorials of Flask taught.
    **{f"werkzeug-2-{name}": f"{name}$0123456789abcdef$" + hmac.new(b"0123456789abcdef", PASSWORD.encode(), name).hexdigest()
       for name in ["md5", "sha1", "sha256", "sha512"]},
    "django-md5": make_password(PASSWORD, hasher="md5"),
    "passlib-django-sha1": passlib.hash.django_salted_sha1.hash(PASSWORD),
    "passlib-ldap-sha512-crypt": passlib.hash.ldap_sha512_crypt.using(rounds=1000).hash(PASSWORD),
    "htpasswd-bcrypt": program("htpasswd", "-nbB", "x", PASSWORD),
    "htpasswd-apr1": program("htpasswd", "-nbm", "x", PASSWORD),
    "htpasswd-sha": program("htpasswd", "-nbs", "x", PASSWORD),
    "htpasswd-sha256-crypt": program("htpasswd", "-nb2", "x", PASSWORD),
    "htpasswd-sha512-crypt": program("htpasswd", "-nb5", "x", PASSWORD),
    **{f"mkpasswd-{method}": program("mkpasswd", "-m", method, PASSWORD) for method in
       ["yescrypt", "sha512crypt", "sha256crypt", "bcrypt", "bcrypt-a", "md5crypt"]},
}
for name, text in kinds.items():
    print(f"{name}\t{text}")
