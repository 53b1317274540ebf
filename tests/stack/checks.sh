# shellcheck shell=bash
# `./dev test`: everything that must hold before a change lands. Cheap checks first.

run_checks() {
  step "cargo fmt" cargo fmt --check
  step "shellcheck" check_shell
  step "actionlint" check_workflows
  step "zizmor" check_workflow_security
  step "hadolint" check_dockerfiles
  step "cargo clippy" cargo clippy --quiet --all-targets --locked -- -D warnings
  say "  runs    the tests of examples/fastapi"
  test_example
  step "cargo deny" cargo deny --log-level error check bans licenses sources
  check_advisories
}

# Known holes in crates. The database of them is fetched from github.com; where that cannot be, nothing is known of holes, and
# nothing is said to be well.
check_advisories() {
  local databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
  if timeout 120 cargo deny --log-level off fetch db >/dev/null 2>&1 || [[ -n $(find "$databases" -name '*.md' -print -quit 2>/dev/null) ]]; then
    step "cargo deny advisories" cargo deny --log-level error --offline check advisories
  else
    say "  NOT CHECKED  known holes in crates (cargo deny check advisories): github.com/rustsec/advisory-db is not here, and could not be fetched"
  fi
}

# The tests proper: their output is shown, as their results are what one comes for.
run_tests() {
  say "  runs    cargo test"
  cargo test --locked
}

# tracked PATTERN...: the files of this repository, the new ones too, that match.
tracked() { git ls-files --cached --others --exclude-standard -- "$@"; }

check_shell() {
  local scripts
  mapfile -t scripts < <(tracked dev .ci/run '*.sh' tests/stack/cluster/node)
  shellcheck --external-sources "${scripts[@]}"
}

check_workflows() {
  local workflows
  mapfile -t workflows < <(tracked '.github/workflows/*.yml' 'workflows/*.yml')
  ((${#workflows[@]} == 0)) || actionlint "${workflows[@]}"
}

check_workflow_security() {
  local inputs
  mapfile -t inputs < <(tracked '.github/workflows/*.yml' 'workflows/*.yml' action.yml 'action/action.yml')
  ((${#inputs[@]} == 0)) || zizmor --offline --no-progress --quiet --persona pedantic --no-config "${inputs[@]}"
}

# Debian removes old versions from its archive, so pinning them (DL3008) would break every build within weeks. The old guide's
# Dockerfile is there to be found fault with.
check_dockerfiles() {
  local dockerfiles
  mapfile -t dockerfiles < <(tracked Dockerfile '*/Dockerfile' '*.Dockerfile' ':!examples/fastapi-poetry/Dockerfile')
  hadolint --ignore DL3008 "${dockerfiles[@]}"
}

# With the lock file as it is, in an environment outside the work tree. Its tests bring an S3 of their own.
test_example() {
  [[ -f examples/fastapi/uv.lock ]] || return 0
  env -u AWS_ENDPOINT_URL UV_PYTHON_DOWNLOADS=never "UV_PROJECT_ENVIRONMENT=$CACHE/python-example" UV_NATIVE_TLS=1 \
    uv run --quiet --locked --directory examples/fastapi pytest -q -p no:cacheprovider
}
