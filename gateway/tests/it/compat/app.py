"""The tutorial's finished app: users in SQLite through Flask-SQLAlchemy, werkzeug hashes, Flask-JWT-Extended.

With BEHIND_GATEWAY=1 it is the same app as the migration guide leaves it: the gateway has taken over /login, /refresh, /logout and
the verification of tokens, and names the user in X-Auth-User. `python app.py NAME=PASSWORD...` creates the table and the users.
"""

import os
import sys
from datetime import timedelta

from flask import Flask, jsonify, request
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token
from flask_jwt_extended import get_jwt, get_jwt_identity, jwt_required
from flask_sqlalchemy import SQLAlchemy
from werkzeug.security import check_password_hash, generate_password_hash

MAX_FAILURES = 5

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
app.config["JWT_SECRET_KEY"] = os.environ["JWT_SECRET_KEY"]
app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(seconds=60)
app.config["JWT_REFRESH_TOKEN_EXPIRES"] = timedelta(seconds=600)
db = SQLAlchemy(app)
jwt = JWTManager(app)
blocklist = set()


class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    username = db.Column(db.String(80), unique=True, nullable=False)
    password_hash = db.Column(db.String(256), nullable=False)
    failed_attempts = db.Column(db.Integer, nullable=False, default=0)


@jwt.token_in_blocklist_loader
def is_revoked(_header, claims):
    return claims["jti"] in blocklist


def greeting(name):
    return jsonify(message=f"Hello {name}, welcome to the protected page.")


if os.environ.get("BEHIND_GATEWAY"):

    @app.get("/protected")
    @app.get("/fresh")
    @app.get("/optional")
    def greet():
        return greeting(request.headers.get("X-Auth-User", "stranger"))

else:

    @app.post("/login")
    def login():
        data = request.get_json()
        user = User.query.filter_by(username=data.get("username", "")).first()
        if user and user.failed_attempts >= MAX_FAILURES:
            return jsonify(msg="Account locked"), 403
        if not user or not check_password_hash(user.password_hash, data.get("password", "")):
            if user:
                user.failed_attempts += 1
                db.session.commit()
            return jsonify(msg="Bad username or password"), 401
        user.failed_attempts = 0
        db.session.commit()
        return jsonify(
            access_token=create_access_token(identity=user.username),
            refresh_token=create_refresh_token(identity=user.username),
        )

    @app.post("/refresh")
    @jwt_required(refresh=True)
    def refresh():
        return jsonify(access_token=create_access_token(identity=get_jwt_identity()))

    @app.post("/logout")
    @jwt_required(verify_type=False)
    def logout():
        blocklist.add(get_jwt()["jti"])
        return "", 204

    @app.get("/protected")
    @jwt_required()
    def protected():
        return greeting(get_jwt_identity())

    @app.get("/fresh")
    @jwt_required(fresh=True)
    def fresh():
        return greeting(get_jwt_identity())

    @app.get("/optional")
    @jwt_required(optional=True)
    def optional():
        return greeting(get_jwt_identity() or "stranger")


if __name__ == "__main__":
    with app.app_context():
        db.create_all()
        for account in sys.argv[1:]:
            name, password = account.split("=", 1)
            db.session.add(User(username=name, password_hash=generate_password_hash(password)))
        db.session.commit()
