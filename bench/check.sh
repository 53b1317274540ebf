#!/usr/bin/env bash
# `cicd check` on a service beside hadolint on its Dockerfile alone. Target: 50 ms.
set -euo pipefail
binary=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r examples/fastapi/. "$work"
git init --quiet "$work"
mkdir -p "$work/.github/workflows"
cp workflows/ci.yml "$work/.github/workflows/"

echo "## check"
echo
echo "service.yaml, the Dockerfile and the calling workflow of examples/fastapi; hadolint reads the Dockerfile only."
echo
echo "| what | time | memory |"
echo "|---|---|---|"
check="sh -c 'cd $work && $binary check --quiet'"
if command -v hadolint >/dev/null; then
  python3 bench/pair.py --runs 51 "cicd check" "$check" "hadolint" "hadolint --no-fail $work/Dockerfile"
else
  python3 bench/pair.py --runs 51 "cicd check" "$check"
  echo "| hadolint is not installed: \`./dev setup\` | | |"
fi
