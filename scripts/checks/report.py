"""The page a check writes: what ran, when, and each thing that must hold with what was seen."""

import datetime
import platform
import subprocess
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def commit() -> str:
    words = ["git", "-C", str(TREE), "describe", "--always", "--dirty", "--abbrev=7"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


class Report:
    def __init__(self, name: str, title: str, about: str):
        self.path, self.title, self.about = TREE / "docs/checks" / name, title, about
        self.facts: list[str] = []
        self.rows: list[tuple[bool, str, str]] = []
        self.parts: list[str] = []

    def check(self, holds: bool, what: str, seen: object) -> None:
        seen = " ".join(str(seen).replace("|", "\\|").split())
        self.rows.append((holds, what, seen))
        print(f"{'PASS' if holds else 'FAIL'}  {what}: {seen}", flush=True)

    def write(self) -> bool:
        failed = sum(not holds for holds, _, _ in self.rows)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        outcome = "all hold" if not failed else f"{failed} do not hold"
        text = [f"# {self.title}", "", self.about, "",
                f"- run on {now}, commit {commit()}, kernel {platform.release()}",
                *(f"- {fact}" for fact in self.facts),
                f"- {len(self.rows)} checks: {outcome}", "",
                "| | what must hold | what was seen |", "|---|---|---|"]
        text += [f"| {'PASS' if holds else 'FAIL'} | {what} | {seen} |"
                 for holds, what, seen in self.rows]
        text += ["", *self.parts] if self.parts else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(text).rstrip() + "\n")
        print(f"-----> {self.path.relative_to(TREE)}: {outcome}")
        return failed == 0
