# shellcheck shell=bash
# `./dev proof NAME`: what no single test shows, as it takes many tries.

# The proofs, and nothing else.
proofs() {
  cat <<'END'
film    under act: a pull request, merges to both environments, a bad release that goes back, a rollback and a promotion by hand
fleet   the fleet page of an organisation in Chromium, by day and by night: pictures, and what axe-core finds
fuzz    10000 inputs for each reader of what strangers send: no panic, no hang, bounded memory
install cargo install --git, of this repository as it is committed: what docs/getting-started.md tells
model   the lock's protocol through every order of two and three runs' requests, wider than the tests
pairs   50 pairs of deploys at once on the emulated S3: one winner, one exit 7, each time
phases  SIGKILL, SIGINT and SIGTERM in each phase of a deploy to each target, and the next run
signals SIGINT to the action's container, started as GitHub's runner starts it, in the middle of each step: what is left, and what is recorded
summaries
        three job summaries and the comment of a pull request, of real deploys, drawn by headless Chromium into docs/pictures
END
}

proof_command() {
  case ${1:-} in
    film | fleet | fuzz | install | model | pairs | phases | signals | summaries) "proof_$1" ;;
    '') proofs ;;
    *) die "no proof \"$1\"; the proofs are:"$'\n'"$(proofs)" ;;
  esac
}

# The inputs are the same each time; PROPTEST_CASES says how many of them are tried.
proof_fuzz() {
  need_rust
  cargo test --locked --quiet --bin cicd --no-run
  say "  runs    ${PROPTEST_CASES:=10000} inputs for each target of \`cargo test fuzz::\`"
  # 4 GiB of addresses: a reader that takes what its input asks for fails.
  (ulimit -v 4194304 && PROPTEST_CASES=$PROPTEST_CASES cargo test --locked --bin cicd fuzz::)
}

proof_model() {
  need_rust
  cargo test --locked --bin cicd -- --ignored --nocapture ledger::model::
}

# Of what is committed, into a folder of its own. Without link-time optimisation: that it builds is what is shown.
proof_install() {
  local root
  need_rust
  root=$(mktemp -d)
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
    cargo install --git "file://$PWD" --locked --root "$root" cicd
  "$root/bin/cicd" --version
  rm -r "$root"
}

# The pictures are in target/fleet/.
proof_fleet() {
  local sources=$STACK_SOURCES/fleet folder=target/fleet
  need chromium=chromium
  need_node 20
  cached fleet "$(hash_of "$sources/package-lock.json")" step "axe-core" install_axe "$sources"
  compile_binary
  rm -rf "$folder"
  python3 bench/records.py "$folder/records" --services 40 --records 60
  "$TEST_BINARY" report --quiet --records "$folder/records" --to "$folder/site"
  # shellcheck disable=SC2154 # set by `cached`
  python3 "$sources/look.py" "$PWD/$folder/site" "$cached/node_modules/axe-core/axe.min.js" "$PWD/$folder/pictures"
}
install_axe() {
  cp "$1/package.json" "$1/package-lock.json" "$2/"
  npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund
}

proof_film() { on_stack film::film --test it; }
# By deploys, and by the ledger alone.
proof_pairs() {
  on_stack proofs::pairs --test it
  on_stack ledger::store::s3::tests::the_stacks_s3_keeps_the_ledger --bin cicd
}
proof_signals() { on_stack signals::signals --test it; }
proof_phases() { on_stack proofs::phases --test it; }
proof_summaries() {
  local sources=$STACK_SOURCES/pictures
  need chromium=chromium
  on_stack pictures::summaries --test it
  cached pictures "$(hash_of "$sources/package-lock.json")" step "marked and mermaid" make_renderer "$sources"
  mkdir -p docs/pictures
  # shellcheck disable=SC2154 # set by `cached`
  node "$sources/draw.mjs" target/pictures docs/pictures "$cached/node_modules"
}
# make_renderer SOURCES FOLDER
make_renderer() {
  cp "$1/package.json" "$1/package-lock.json" "$2"
  npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund
}
on_stack() {
  stack_is_up || locked setup setup_stack
  with_stack run_ignored "$@"
}

# run_ignored NAME WHERE...: a test that `./dev test` leaves out, as it takes minutes.
run_ignored() {
  local name=$1
  shift
  need_rust
  cargo test --locked "$@" -- --ignored --exact --nocapture "$name"
}
