#!/usr/bin/env bash
# `cicd build-image` beside a bare `docker buildx build` of the same, both with all steps in the engine's cache. Target: 0.3 s more.
set -euo pipefail
binary=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

table() {
  printf '\n%s\n\n| what | time | memory |\n|---|---|---|\n' "$1"
}

service=$work/service
cp -r examples/fastapi "$service"
git -C "$service" init --quiet --initial-branch main
git -C "$service" add --all
git -C "$service" -c user.name=bench -c user.email=bench@example.org commit --quiet --message "feat: bench"

# Exactly what build-image asks of buildx, so that nothing but build-image itself is measured.
build() {
  local arguments=()
  mapfile -t arguments < <("$binary" build-image --plan --output json --service "$service/service.yaml" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["rendered"].replace(" ", "\n"))')
  printf '#!/bin/sh\ncd %q && exec docker buildx %s\n' "$service" "$(printf '%q ' "${arguments[@]}")" >"$work/bare"
  chmod +x "$work/bare"
}

echo "## build-image"
build
table "Nothing changed: all steps are cached. The difference of the two medians is what build-image costs."
python3 bench/pair.py --runs 7 \
  "cicd build-image --skip-contract" "$binary build-image --skip-contract --quiet --service $service/service.yaml --layout $work/layout" \
  "docker buildx build" "$work/bare"
