#!/usr/bin/env python3
"""Builds the engine's own tests and puts them where disk.sh finds them: target/vm/engine-tests."""
import json
import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "target", "vm", "engine-tests")

built = subprocess.run(["cargo", "test", "-p", "engine", "--no-run", "--message-format", "json-render-diagnostics"],
                       cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
os.makedirs(os.path.join(OUT, "programs"))
paths = []
for message in map(json.loads, built.stdout.splitlines()):
    program, target = message.get("executable"), message.get("target", {})
    if not program:
        continue
    if target["kind"] == ["test"]:
        shutil.copy(program, os.path.join(OUT, "it"))
    elif target["kind"] == ["lib"]:
        shutil.copy(program, os.path.join(OUT, "unit"))
    elif target["kind"] == ["bin"] and not message["profile"]["test"]:
        shutil.copy(program, os.path.join(OUT, "programs", target["name"]))
        paths.append(f"{target['name']} {program}\n")
with open(os.path.join(OUT, "paths"), "w") as file:
    file.writelines(paths)
assert sorted(os.listdir(OUT)) == ["it", "paths", "programs", "unit"], os.listdir(OUT)
