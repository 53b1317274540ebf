#!/usr/bin/env bash
# `cicd push-ecr --repository` beside crane, skopeo and `docker push`, to a registry on loopback whose storage is in memory: what is
# measured is the client and the registry, not a disk. Each push is to a repository of its own, so that nothing is there yet.
set -euo pipefail
binary=$1
work=$(mktemp -d)
storage=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo "$work")")
registries=()
trap 'kill "${registries[@]}" 2>/dev/null; rm -rf "$work" "$storage"' EXIT
printf 'name: bench\nport: 1\n' >"$work/service.yaml"

command -v docker-registry >/dev/null || { echo "docker-registry is not on the PATH: ./dev setup, then ./dev bench push" >&2; exit 1; }

# registry [tls]: starts one; its address is in $registry. All of them keep what they get in the same place. One that speaks TLS is
# called by this machine's name, as clients speak plain HTTP to localhost.
registry() {
  local port tries name=localhost scheme=http tls=
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  if [[ ${1:-} == tls ]]; then
    name=$(hostname) scheme=https
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/key.pem" -out "$work/own.pem" -days 1 -subj "/CN=$name" \
      -addext "subjectAltName=DNS:$name" -addext "basicConstraints=critical,CA:FALSE" 2>/dev/null
    tls=", tls: {certificate: $work/own.pem, key: $work/key.pem}"
    export SSL_CERT_FILE=$work/own.pem
  fi
  printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "%s:%s"%s}\n' \
    "$storage" "$name" "$port" "$tls" >"$work/$port.yaml"
  docker-registry serve "$work/$port.yaml" >"$work/$port.log" 2>&1 &
  registries+=($!)
  registry=$name:$port
  for ((tries = 0; tries < 100; tries++)); do
    ! curl -skf -o /dev/null "$scheme://$registry/v2/" || return 0
    sleep 0.05
  done
  cat "$work/$port.log" >&2
  exit 1
}

# image NAME SIZES [SEED]: an OCI layout; its folder is in $image.
image() {
  image=$work/$1
  [[ -d $image ]] || python3 bench/image.py "$image" "$2" --seed "${3:-0}"
}

# The commands, each to a REPOSITORY of $registry. An empty one is a new one each time.
unused="bench/\$(cat /proc/sys/kernel/random/uuid)"
# cicd [REPOSITORY] [TAG]
cicd() { printf "sh -c '%s push-ecr --output json --quiet --service %s --layout %s --tag %s --repository %s/%s'" "$binary" "$work/service.yaml" "$image" "${2:-1.0.0}" "$registry" "${1:-$unused}"; }
crane() { printf "sh -c 'crane push %s %s/%s:1.0.0'" "$image" "$registry" "${1:-$unused}"; }
has() { command -v "$1" >/dev/null || { echo "| $1 is not installed: \`$2\` | | |"; return 1; }; }

table() { printf '\n%s\n\n| what | time | memory |\n|---|---|---|\n' "$1"; }
pair() { python3 bench/pair.py "$@"; }
# against_crane RUNS NAME [--processor | REPOSITORY OURS]: the peer first, so that the ratio says how many times faster cicd is.
against_crane() {
  has crane "go install github.com/google/go-containerregistry/cmd/crane@v0.22.1" || return 0
  local processor=()
  [[ ${3:-} != --processor ]] || { processor=(--processor) && set -- "$1" "$2"; }
  pair --runs "$1" "${processor[@]}" "crane, $2" "$(crane "${3:-}")" "cicd, $2" "$(cicd "${4:-}")"
}

# against_skopeo RUNS NAME: it knows what it pushed to a registry before, and mounts it, so that each run of it gets a registry of
# its own: the first of those in $work/registries.
against_skopeo() {
  has skopeo "apt-get install skopeo" || return 0
  local count ours
  ours=$(cicd)
  for ((count = 0; count <= $1; count++)); do
    registry
    echo "$registry"
  done >"$work/registries"
  cat >"$work/skopeo.sh" <<END
set -e
to=\$(head -n 1 $work/registries)/$unused
sed -i 1d $work/registries
skopeo --insecure-policy copy --quiet --dest-tls-verify=false oci:$image:bench docker://\$to:1.0.0
END
  pair --runs "$1" "skopeo, $2" "sh $work/skopeo.sh" "cicd, $2" "$ours"
}

echo "## push-ecr"
image large 4x160000,28000
printf '\n%s\n\n| what | time | memory | processor |\n|---|---|---|---|\n' \
  "668 MB in five layers that do not compress: what the client costs, over TLS as ECR speaks, and without. Target: crane's at most."
registry tls
against_crane 5 "668 MB over TLS" --processor
unset SSL_CERT_FILE
registry
against_crane 5 "668 MB over plain HTTP" --processor
table "668 MB in five layers that do not compress, into a new repository. Target: 1.2 times as fast as crane, 2 times skopeo, 3 times docker; 32 MiB."
against_crane 5 "668 MB"
against_skopeo 3 "668 MB"
for store in classic containerd; do bash bench/docker-push.sh "$store" 3 "$image" "$binary" "$storage"; done
pair --runs 3 "four curl at a time, without any look: what the registry takes" "bash bench/upload.sh $image $registry"

table "The same again, into the repository that has it. Target: nothing moves, in crane's time."
against_crane 11 "all there" bench/crane bench/cicd
image small 50x1000
sh -c "$(cicd bench/layers)" >/dev/null
image changed 49x1000,1001
uploaded=$(sh -c "$(cicd bench/layers 1.0.1)" | python3 -c 'import json, sys; found = json.load(sys.stdin); print(found["uploaded-bytes"], "of", found["uploaded-bytes"] + found["skipped-bytes"])')
printf '\nOne layer of 50, of 1 MB each, is another one: %s bytes move. Target: only that one.\n' "$uploaded"
image many 200x10
table "200 layers of 10 KB. Target: 1.5 times as fast as crane."
against_crane 5 "200 layers"

table "The curve, by the number of layers and their size."
for layers in 1x100000 10x10000 100x1000 4x10000 4x40000 4x160000; do
  image "$layers" "$layers"
  against_crane 3 "${layers/x/ layers of } KB"
done
