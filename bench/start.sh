#!/usr/bin/env bash
# What it costs to start the binary, and how large it is. Target: 10 ms, 30 MB.
set -euo pipefail
binary=$1
echo "## Start and size"
echo
echo "| what | time | memory |"
echo "|---|---|---|"
python3 bench/pair.py --runs 51 "cicd --version" "$binary --version" "true" "true"
printf '\nThe release binary has %.1f MB.\n' "$(($(stat -c %s "$binary") / 100000))e-1"
