# shellcheck shell=bash
# Debian and Ubuntu packages: installs what is missing, after saying so. Elsewhere names what is missing and stops.

as_root() { if ((EUID)); then sudo -- "$@"; else "$@"; fi; }

# need COMMAND=PACKAGE...: installs the packages whose command is not on the PATH.
need() {
  local pair missing=()
  for pair in "$@"; do
    [[ -n $(PATH=$PATH:/usr/sbin:/sbin type -P "${pair%%=*}") ]] || missing+=("${pair##*=}")
  done
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

# What the scripts themselves call.
need_basics() {
  need curl=curl git=git flock=util-linux ps=procps
  [[ -n $(host_ca_bundle) ]] || install_packages ca-certificates
  need_python
}

install_packages() {
  [[ -n $(type -P apt-get) ]] || die "please install: $* (this machine has no apt-get, so dev cannot)"
  say "  installs with apt: $*"
  step "apt install $1" apt_install "$@"
}

apt_install() {
  refresh_package_lists
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"
}

# A list older than a day may name versions that the archive no longer has.
refresh_package_lists() {
  [[ -z $(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -1 -print -quit 2>/dev/null) ]] || return 0
  as_root apt-get update -q
}

# debian_source: the file that says where this machine takes Debian from; other releases come from the same place.
debian_source() { grep -lsE '^URIs:.*/debian/?( |$)' /etc/apt/sources.list.d/*.sources | grep -v /cicd- | head -n 1; }

debian_uri() {
  local file
  file=$(debian_source)
  if [[ -n $file ]]; then
    sed -nE 's/^URIs: *([^ ]+).*/\1/p' "$file" | head -n 1
  else
    sed -nE 's/^deb +(\[[^]]*\] *)?([^ ]+).*/\2/p' /etc/apt/sources.list | head -n 1
  fi
}
