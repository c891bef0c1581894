"""A Flask app behind auth-gateway: `gunicorn --bind 127.0.0.1:PORT app:app`."""

import io

from flask import Flask, redirect, request, send_file
from markupsafe import escape
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
# The scheme, the host and the address that the client used, as the gateway says.
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)
notes = []

PAGE = """<!doctype html><title>Notes</title><h1>Notes of {user}</h1><ul>{items}</ul>
<form method="post" action="/notes" enctype="multipart/form-data">
<label>Note <input name="text"></label> <label>File <input name="file" type="file"></label> <button>Save</button></form>
<a href="/download/last.txt">Download</a> <a href="/auth/logout">Sign out</a>"""


@app.get("/notes")
def show():
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return PAGE.format(user=escape(request.headers["X-Auth-User"]), items=items)


@app.post("/notes")
def save():
    file = request.files.get("file")
    attached = file.read().decode() if file else ""
    notes.append(f"{request.headers['X-Auth-User']}: {request.form['text']} {attached}".strip())
    return redirect("/notes")


@app.get("/download/last.txt")
def download():
    return send_file(io.BytesIO(notes[-1].encode()), "text/plain", as_attachment=True, download_name="last.txt")
