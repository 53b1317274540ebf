#!/usr/bin/env bash
# The contract beside the service's own start, and packing beside gzip. The build itself is in incremental.sh.
set -euo pipefail
binary=$1
work=$(mktemp -d)
network=cicd-bench-$$
trap 'docker network rm "$network" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

table() {
  printf '\n%s\n\n| what | time | memory |\n|---|---|---|\n' "$1"
}

service=$work/service
cp -r examples/fastapi "$service"
git -C "$service" init --quiet --initial-branch main
git -C "$service" add --all
git -C "$service" -c user.name=bench -c user.email=bench@example.org commit --quiet --message "feat: bench"

echo "## build-image"

# As GitHub runs the action: in a container of its image, in a network of the job's own.
container() {
  local socket=${DOCKER_HOST:-/var/run/docker.sock}
  ./dev image "$binary" >/dev/null
  docker network create "$network" >/dev/null
  printf '#!/bin/sh\nexec docker run --rm --network %q --volume %q:%q --volume %q:/var/run/docker.sock --workdir %q cicd:local "$@"\n' \
    "$network" "$work" "$work" "${socket#unix://}" "$service" >"$work/action"
  chmod +x "$work/action"
}

# contract CICD WHERE
contract() {
  table "The contract of examples/fastapi, $2. Target: 1.5 times the service's own start and 1 s."
  python3 bench/contract.py "$1" "$service/service.yaml" "$work/layout" 8000 /healthz
}

# Once, so that the engine has the image.
"$binary" build-image --quiet --service "$service/service.yaml" --layout "$work/layout" >/dev/null
container
contract "$work/action" "in the action's container"
contract "$binary" "on the machine itself"

# What an engine with an older store saves is packed here: an archive as it writes it, with one layer of 400 MB of programs.
image=$work/image
mkdir "$image"
find /usr/bin /usr/lib -xdev -type f -size +16k -printf '%s %p\n' | sort -k 2 | awk '{ size += $1; if (size <= 400000000) print $2 }' |
  tar --create --file "$image/layer.tar" --files-from - 2>/dev/null
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$(sha256sum "$image/layer.tar" | cut -d ' ' -f 1)" >"$image/config.json"
printf '[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]' >"$image/manifest.json"
tar --create --directory "$image" --file "$work/saved.tar" manifest.json config.json layer.tar
table "Packing what \`docker save\` of an older store gives, one layer of 400 MB of programs. Target: twice as fast as gzip -6 (without the time of \`docker save\`), 128 MiB."
python3 bench/pair.py --runs 3 "gzip -6" "sh -c 'gzip -6 <$work/saved.tar >/dev/null'" \
  "cicd build-image --from" "$binary build-image --skip-contract --quiet --service $service/service.yaml --from $work/saved.tar --layout $work/packed"
