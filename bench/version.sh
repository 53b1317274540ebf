#!/usr/bin/env bash
# `cicd version` beside `git describe` and `git rev-list` together, on histories of growing length with the same number of
# commits since the last version: the cost follows the range, not the history. Then with `paths` beside `git log -- path`, and
# beside two peers where they are installed.
set -euo pipefail
binary=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# history COMMITS SINCE: a repository with 199 versions, made once; prints its folder.
history() {
  local repository=$work/$1-$2
  if [[ ! -d $repository ]]; then
    git init --quiet --initial-branch main "$repository"
    python3 bench/history.py "$1" 199 "$2" | git -C "$repository" fast-import --quiet
    git -C "$repository" gc --quiet
    printf 'name: bench\nport: 1\n' >"$repository/service.yaml"
    printf 'name: bench\nport: 1\nversion: {paths: [d5]}\n' >"$repository/paths.yaml"
    # cocogitto wants a clean work tree.
    printf 'tag_prefix = "v"\n' >"$repository/cog.toml"
    printf '*.yaml\ncog.toml\n' >>"$repository/.git/info/exclude"
    git -C "$repository" checkout --quiet --force main
  fi
  echo "$repository"
}

table() {
  printf '\n%s\n\n| what | time | memory |\n|---|---|---|\n' "$1"
}

echo "## version"
table "The curve: 199 versions, and the same range after the last."
for size in "10000 500" "100000 500" "1000000 500" "1000000 1000"; do
  read -r commits since <<<"$size"
  repository=$(history "$commits" "$since")
  python3 bench/pair.py "cicd version, $since of $commits commits" "$binary version --quiet --service $repository/service.yaml" \
    "git describe + rev-list, $since of $commits commits" "sh -c 'cd $repository && git rev-list --count \$(git describe --tags --abbrev=0)..HEAD'"
done

repository=$(history 100000 500)
table "With \`paths\`: one folder of 50, 500 of 100000 commits."
python3 bench/pair.py "cicd version, paths: [d5]" "$binary version --quiet --service $repository/paths.yaml" \
  "git log --oneline -- d5" "git -C $repository log --oneline v0.199.0..HEAD -- d5"

table "Beside peers, 500 of 100000 commits; one run of a peer, as it takes long."
if command -v cog >/dev/null; then
  python3 bench/pair.py --runs 3 "cocogitto, cog bump --auto --dry-run" "sh -c 'cd $repository && cog bump --auto --dry-run'" \
    "cicd version" "$binary version --quiet --service $repository/service.yaml"
else
  echo "| cocogitto is not installed: \`cargo install cocogitto\` | | |"
fi
if command -v git-cliff >/dev/null; then
  python3 bench/pair.py --runs 1 "git-cliff --bumped-version" "sh -c 'cd $repository && git-cliff --bumped-version'" \
    "cicd version" "$binary version --quiet --service $repository/service.yaml"
else
  echo "| git-cliff is not installed: \`pip install git-cliff\` | | |"
fi
