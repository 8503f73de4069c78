"""The three example apps as the benchmark sees them: the line that changes, and a Dockerfile as its
owner would write it (dependencies before source, so that a code-only change builds none)."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Example:
    name: str
    file: str
    # The greeting on the page; the change puts a marker behind it.
    greeting: str
    dockerfile: str


EXAMPLES = [
    Example(
        "node-web",
        "page.js",
        "Hello from Node",
        """\
FROM wharf-bench/node-web
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY . .
USER 1000:1000
CMD ["node", "server.js"]
""",
    ),
    Example(
        "python-web",
        "templates/index.html",
        "Hello from Flask",
        """\
FROM wharf-bench/python-web
WORKDIR /app
COPY requirements.txt ./
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -r requirements.txt
COPY . .
USER 1000:1000
CMD ["gunicorn", "app:app", "--bind", "0.0.0.0:8080", "--workers", "2", "--access-logfile", "-"]
""",
    ),
    Example(
        "static-site",
        "index.html",
        "Hello from plain files",
        """\
FROM wharf-bench/static-site
COPY . /site
USER 1000:1000
CMD ["/opt/wharf/bin/wharf", "static", "--root", "/site", "--port", "8080"]
""",
    ),
]


class Repository:
    """A git repository of an example, in which one line can be changed."""

    def __init__(self, example: Example, folder: Path):
        self.example, self.folder = example, folder
        shutil.copytree(TREE / "examples" / example.name, folder)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=Bench", "-c", "user.email=bench@localhost"]
        subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True)

    def change(self, marker: str) -> None:
        """Puts the marker into the one line, and commits."""
        path = self.folder / self.example.file
        greeting = self.example.greeting
        text, count = re.subn(f"{greeting}[^<]*", f"{greeting} {marker}", path.read_text())
        if count != 1:
            raise RuntimeError(f"{path} greets {count} times with `{greeting}`, not once")
        path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", marker)


class IdleRepository(Repository):
    """An app that only sleeps: what a container costs by itself."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "Procfile").write_text("sleeper: exec sleep 1000000\n")
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "sleep")
