# shellcheck shell=bash
# prism, which answers as GitHub's own description of its API says, and refuses what that does not allow. The tests' GitHub
# asks it of every request it gets.

setup_github() {
  need_node 18.20
  local sources=$STACK_SOURCES/github
  cached github "$(hash_of "$sources/package-lock.json" "$sources/slice.mjs")" step "prism" make_prism "$sources"
  # shellcheck disable=SC2154 # set by `cached`
  ln -sfn "$cached" "$CACHE/github/current"
}

# make_prism SOURCES FOLDER
make_prism() {
  cp "$1/package.json" "$1/package-lock.json" "$2"
  npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund
  node "$1/slice.mjs" "$2/node_modules/@octokit/openapi/generated/api.github.com.deref.json" "$2/github.json"
  rm -r "$2/node_modules/@octokit/openapi" # 385 MB
}

start_github() { step "GitHub's API" run_github; }
run_github() {
  cp "$CACHE/github/current/github.json" "$STATE/github.json"
  # By its file: what npm links as a command is another name in each version of npm.
  # shellcheck disable=SC2154 # set by $STATE/ports
  daemon github node "$CACHE/github/current/node_modules/@stoplight/prism-cli/dist/index.js" \
    mock --errors --host 127.0.0.1 --port "$github_port" "$STATE/github.json"
  until_answers github "$(github_url)"
}
github_url() { printf 'http://127.0.0.1:%s/repos/clinicult/patients/tags' "$github_port"; }
