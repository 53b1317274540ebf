#!/usr/bin/env bash
# `cicd version` beside `git describe` and `git rev-list` together, on histories of growing length with the same number of
# commits since the last version: the cost follows the range, not the history.
set -euo pipefail
binary=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "## version"
echo
echo "500 commits since the last of 199 versions."
echo
echo "| history | time | memory |"
echo "|---|---|---|"
for commits in 10000 100000 1000000; do
  repository=$work/$commits
  git init --quiet --initial-branch main "$repository"
  python3 bench/history.py "$commits" 199 500 | git -C "$repository" fast-import --quiet
  git -C "$repository" gc --quiet
  printf 'name: bench\nport: 1\n' >"$repository/service.yaml"
  python3 bench/pair.py "cicd version, $commits commits" "$binary version --quiet --service $repository/service.yaml" \
    "git describe + rev-list, $commits commits" "sh -c 'cd $repository && git rev-list --count \$(git describe --tags --abbrev=0)..HEAD'"
done
