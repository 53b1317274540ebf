#!/usr/bin/env bash
# docker-push.sh STORE RUNS LAYOUT BINARY STORAGE: `docker push` of an image that an engine of its own has loaded, and `cicd push-ecr`
# of the same, in turn; rows of a table. STORE is `classic`, whose layers lie unpacked, or `containerd`.
#
# An engine remembers what it pushed before, so that each push is by a new one, to a registry of its own.
# All of it is in its own network, as an engine tidies up the bridge that it finds.
set -euo pipefail
if [[ ${INSIDE:-} != yes ]]; then
  (($(id -u) == 0)) || { echo "| docker push: an engine of its own wants root | | |"; exit 0; }
  INSIDE=yes exec unshare --net bash "${BASH_SOURCE[0]}" "$@"
fi
store=$1 runs=$2 layout=$3 binary=$4 storage=$5
ip link set lo up
work=$(mktemp -d)
started=()
# stop_all: what was started last ends first, and is waited for.
stop_all() {
  local index
  for ((index = ${#started[@]} - 1; index >= 0; index--)); do
    kill "${started[index]}" 2>/dev/null || true
    wait "${started[index]}" 2>/dev/null || true
  done
  started=()
}
trap 'stop_all; rm -rf "$work"' EXIT
export DOCKER_HOST=unix://$work/docker.sock
printf 'name: bench\nport: 1\n' >"$work/service.yaml"
printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:5000"}\n' \
  "$storage/docker" >"$work/registry.yaml"

# until_it_answers COMMAND...
until_it_answers() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  cat "$work/log" >&2
  return 1
}

registry() {
  rm -rf "$storage/docker"
  docker-registry serve "$work/registry.yaml" >>"$work/log" 2>&1 &
  started+=($!)
  until_it_answers curl -sf http://localhost:5000/v2/
}

engine() {
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" --host "$DOCKER_HOST" \
    --feature "containerd-snapshotter=$([[ $store == containerd ]] && echo true || echo false)" >>"$work/log" 2>&1 &
  started+=($!)
  until_it_answers docker info
}

# seconds COMMAND...: how long it takes.
seconds() {
  local from=$EPOCHREALTIME
  "$@" >/dev/null
  python3 -c 'import sys; print(float(sys.argv[2]) - float(sys.argv[1]))' "$from" "$EPOCHREALTIME"
}

engine
skopeo --insecure-policy copy --quiet "oci:$layout:bench" "docker-archive:$work/image.tar:localhost:5000/bench:1.0.0"
docker load --quiet --input "$work/image.tar" >/dev/null
rm "$work/image.tar"
stop_all
for ((run = 0; run < runs; run++)); do
  registry
  engine
  seconds docker push --quiet localhost:5000/bench:1.0.0 >>"$work/docker"
  stop_all
  registry
  seconds "$binary" push-ecr --output json --quiet --service "$work/service.yaml" --layout "$layout" --tag 1.0.0 \
    --repository localhost:5000/bench >>"$work/cicd"
  stop_all
done
python3 - "$store" "$work/docker" "$work/cicd" <<'END_OF_PYTHON'
import statistics, sys
docker, cicd = ([float(line) for line in open(file)] for file in sys.argv[2:])
for name, seconds in ("docker push", docker), ("cicd", cicd):
    print(f"| {name}, {sys.argv[1]} store | {statistics.median(seconds) * 1000:.1f} ms | |")
print(f"| docker push / cicd | {statistics.median(a / b for a, b in zip(docker, cicd)):.2f} | |")
END_OF_PYTHON
