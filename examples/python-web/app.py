import os
import platform

from flask import Flask, render_template, request

app = Flask(__name__)


@app.get("/")
def index():
    rows = {
        "app": os.environ.get("WHARF_APP") or os.environ.get("HEROKU_APP_NAME", "python-web"),
        "release": os.environ.get("WHARF_RELEASE") or os.environ.get("HEROKU_RELEASE_VERSION"),
        "replica": os.environ.get("WHARF_REPLICA") or os.environ.get("DYNO"),
        "python": platform.python_version(),
        "request": request.headers.get("X-Request-ID"),
    }
    return render_template("index.html", rows=rows)


@app.get("/healthz")
def healthz():
    return {"ok": True}
