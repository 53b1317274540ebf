# shellcheck shell=bash
# The Docker engine: the one this machine has, or one we install and start, with BuildKit and the containerd image store.

ENGINE=$CACHE/engine

# A working client is one that reaches an engine and has buildx: a client alone is no engine.
docker_client() {
  local candidate
  for candidate in $(type -aP docker) /usr/bin/docker; do
    [[ $candidate != "$CACHE/bin/docker" ]] || continue # our own link to the one found here
    if [[ -x $candidate ]] && "$candidate" info >/dev/null 2>&1 && "$candidate" buildx version >/dev/null 2>&1; then
      printf '%s' "$candidate"
      return
    fi
  done
}

engine_ready() { [[ -n $(docker_client) ]]; }

setup_engine() {
  if ! engine_ready; then
    [[ -n $(type -P apt-get) ]] || die "no Docker engine with buildx answers here: please install and start one"
    enough_docker_installed || install_packages_of_docker
    step "Docker engine starts" start_engine
  fi
  use_docker_client
}

# Puts the client that works first on the PATH, so that every child finds the same one.
use_docker_client() {
  local client
  client=$(docker_client)
  [[ -n $client ]] || die "no Docker engine answers"
  mkdir -p "$CACHE/bin"
  [[ $(readlink "$CACHE/bin/docker") == "$client" ]] || ln -sfn "$client" "$CACHE/bin/docker"
}

enough_docker_installed() {
  [[ -n $(type -P dockerd) && -x /usr/libexec/docker/cli-plugins/docker-buildx && -n $(type -P iptables) ]] &&
    (($(dockerd --version | grep -oE '[0-9]+' | head -n 1) >= 26))
}

# Debian 12's own Docker is 20.10, whose containerd image store is not finished. Sid's packages below need nothing that
# Debian 12 lacks (runc does, so that one stays), and the pins keep everything else where it is.
install_packages_of_docker() {
  local offered packages=(docker.io docker-buildx containerd runc iptables tini)
  step "apt update" refresh_package_lists
  offered=$(apt-cache policy docker.io | sed -nE 's/ *Candidate: ([0-9]+).*/\1/p')
  if ((${offered:-0} < 26)); then
    [[ -n $(debian_source) ]] || die "docker.io ${offered:-none} is too old: please install Docker 26 or newer with buildx"
    packages=(docker.io docker-cli docker-buildx containerd tini-static iptables)
    say "  adds Debian sid to apt, for ${packages[*]:0:5} only (/etc/apt/sources.list.d/cicd-docker.sources)"
    step "apt update sid" add_sid_source
  elif apt-cache show docker-cli >/dev/null 2>&1; then
    packages+=(docker-cli)
  fi
  install_packages "${packages[@]}"
}

add_sid_source() {
  local source=/etc/apt/sources.list.d/cicd-docker.sources preferences=/etc/apt/preferences.d/cicd-docker
  as_root tee "$preferences" >/dev/null <<END
Package: *
Pin: release n=sid
Pin-Priority: -1

Package: docker.io docker-cli docker-buildx containerd tini-static
Pin: release n=sid
Pin-Priority: 990
END
  as_root tee "$source" >/dev/null <<END
Types: deb
URIs: $(debian_uri)
Suites: sid
Components: main
$(grep -m 1 '^Signed-By:' "$(debian_source)")
END
  as_root apt-get update -q -o Dir::Etc::sourcelist="$source" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=0
}

# Its data lies in the cache, so that a removed cache leaves no image behind.
start_engine() {
  mkdir -p "$ENGINE/data"
  local root=() tries
  ((EUID == 0)) || root=(sudo --)
  detached "${root[@]}" dockerd --data-root "$ENGINE/data" --feature containerd-snapshotter=true \
    --pidfile "$ENGINE/dockerd.pid" >"$ENGINE/dockerd.log" 2>&1
  for ((tries = 0; tries < 150; tries++)); do
    ! engine_ready || return 0
    sleep 0.2
  done
  tail -n 20 "$ENGINE/dockerd.log"
  return 1
}

we_started_engine() { [[ -s $ENGINE/dockerd.pid ]] && process_runs "$(<"$ENGINE/dockerd.pid")"; }

stop_engine() {
  local pid tries
  pid=$(<"$ENGINE/dockerd.pid")
  as_root kill "$pid"
  for ((tries = 0; tries < 300; tries++)); do
    process_runs "$pid" || return 0
    sleep 0.1
  done
  return 1
}
