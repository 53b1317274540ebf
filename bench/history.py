#!/usr/bin/env python3
"""Prints a git fast-import stream: a history of N commits, T version tags, and R commits since the last of them.

    history.py N T R | git -C REPOSITORY fast-import --quiet
"""
import sys

commits, tags, since = map(int, sys.argv[1:4])
write = sys.stdout.write
kinds = ["feat", "fix", "docs", "chore", "perf"]
for number in range(1, commits + 1):
    time = 1_600_000_000 + number * 60
    message = f"{kinds[number % 5]}(part{number % 17}): change {number}\n\nWhy {number}.\n"
    write(f"commit refs/heads/main\nmark :{number}\n")
    write(f"author A <a@example.org> {time} +0000\ncommitter A <a@example.org> {time} +0000\n")
    write(f"data {len(message)}\n{message}")
    if number > 1:
        write(f"from :{number - 1}\n")
    content = f"{number}\n"
    write(f"M 100644 inline d{number % 50}/f{number % 13}.txt\ndata {len(content)}\n{content}\n")
last = commits - since
step = max(1, last // tags)
for tag in range(tags):
    write(f"reset refs/tags/v0.{tag + 1}.0\nfrom :{max(1, last - (tags - 1 - tag) * step)}\n\n")
