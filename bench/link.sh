#!/usr/bin/env bash
# link.sh BINARY: pushes over a line of 100 Mbit/s and 20 ms (bench/link.py) to a registry on loopback: all of an image, the same again,
# one layer of it changed, and what is left after a line that was cut at half. Beside crane, skopeo and `docker push`, in turn.
#
# The line's own time is what its rate takes for the bytes that have to move. Each push but the second is to a repository of its own.
set -euo pipefail
binary=$1
rounds=${BENCH_ROUNDS:-3}
work=$(mktemp -d)
storage=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo "$work")")
started=()
trap 'kill "${started[@]}" 2>/dev/null; docker images --quiet "localhost/bench-$$" | xargs --no-run-if-empty docker rmi >/dev/null 2>&1; rm -rf "$work" "$storage"' EXIT
printf 'name: bench\nport: 1\n' >"$work/service.yaml"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_it_answers() {
  local tries
  for ((tries = 0; tries < 100; tries++)); do
    ! curl -sf -o /dev/null "http://$1/v2/" || return 0
    sleep 0.05
  done
  return 1
}
registry_port=$(free_port)
printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' \
  "$storage" "$registry_port" >"$work/registry.yaml"
docker-registry serve "$work/registry.yaml" >"$work/registry.log" 2>&1 &
started+=($!)
until_it_answers "127.0.0.1:$registry_port"

# line [OPTION...]: a new one; its address is in $at. An engine and skopeo remember what they pushed to an address.
line() {
  local port
  port=$(free_port)
  python3 bench/link.py "$port" "$registry_port" --count "$work/count" "$@" &
  line=$!
  started+=("$line")
  at=localhost:$port
  until_it_answers "$at"
}
end_line() { kill "$line" 2>/dev/null || true; wait "$line" 2>/dev/null || true; }

push_cicd() { "$binary" push-ecr --output json --quiet --service "$work/service.yaml" --layout "$1" --tag "$tag" --repository "$2"; }
push_crane() { crane push "$1" "$2:1.0.0"; }
push_skopeo() { skopeo --insecure-policy copy --quiet --dest-tls-verify=false "oci:$1:bench" "docker://$2:1.0.0"; }
push_docker() {
  docker tag "localhost/bench-$$:${1##*/}" "$2:1.0.0"
  docker push --quiet "$2:1.0.0" || { docker rmi "$2:1.0.0" >/dev/null; return 1; }
  docker rmi "$2:1.0.0"
}
tag=1.0.0
clients=(cicd)
for peer in crane skopeo docker; do
  if [[ -n $(type -P "$peer") ]]; then clients+=("$peer"); else echo "$peer is not installed" >&2; fi
done

# image NAME SIZES: the same seed, so that images share the layers of one size.
image() {
  python3 bench/image.py "$work/$1" "$2"
  [[ " ${clients[*]} " != *" docker "* ]] || {
    skopeo --insecure-policy copy --quiet "oci:$work/$1:bench" "docker-archive:$work/$1.tar:localhost/bench-$$:$1"
    docker load --quiet --input "$work/$1.tar" >/dev/null
    rm "$work/$1.tar"
  }
}
image whole "${BENCH_LAYERS:-3x60000,20000}"
image changed "${BENCH_CHANGED:-3x60000,20001}"

# timed NAME CLIENT LAYOUT REPOSITORY: notes the seconds, and the bytes that went to the registry meanwhile, headers included.
timed() {
  local from before=0
  sleep 0.1
  before=$(<"$work/count")
  from=$EPOCHREALTIME
  "push_$2" "$3" "$4" >/dev/null 2>"$work/error" || { cat "$work/error" >&2; exit 1; }
  local to=$EPOCHREALTIME
  sleep 0.1
  echo "$from $to $before $(<"$work/count")" >>"$work/$1.$2"
}

total=$(python3 -c 'import pathlib, sys; print(sum(f.stat().st_size for f in pathlib.Path(sys.argv[1]).glob("blobs/sha256/*")))' "$work/whole")
for ((round = 0; round < rounds; round++)); do
  for client in "${clients[@]}"; do
    repository=bench/$client-$round-$$
    line
    timed first "$client" "$work/whole" "$at/$repository"
    timed again "$client" "$work/whole" "$at/$repository"
    tag=1.0.1 # which ours never moves
    timed changed "$client" "$work/changed" "$at/$repository"
    tag=1.0.0
    end_line
    [[ $client != docker ]] || continue # its engine goes on by itself, and mounts what it pushed elsewhere
    line --cut $((total / 2))
    set -m # a group of its own, which can be ended as a whole
    "push_$client" "$work/whole" "$at/$repository-cut" >/dev/null 2>&1 &
    set +m
    pushing=$!
    wait "$line" || true
    kill -- "-$pushing" 2>/dev/null || true
    wait "$pushing" 2>/dev/null || true
    line
    timed resumed "$client" "$work/whole" "$at/$repository-cut"
    end_line
  done
done

python3 - "$work" "$total" "${clients[@]}" <<'END'
import json, pathlib, statistics, sys
work, total, clients = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
sizes = {name: {f.name: f.stat().st_size for f in (work / name / "blobs/sha256").iterdir()} for name in ("whole", "changed")}
own = {"first": total, "again": 0, "resumed": None,
       "changed": sum(size for name, size in sizes["changed"].items() if name not in sizes["whole"])}
rate = 100e6 / 8
print(f"{total / 1e6:.0f} MB, of which the line takes {total / rate:.2f} s.\n")
print("| over 100 Mbit/s and 20 ms | time: minimum, median, maximum | / the line's own time | moved, with headers |\n|---|---|---|---|")
words = {"first": "into a new repository", "again": "all there already", "changed": "one layer changed", "resumed": "after a cut at half"}
for what, title in words.items():
    for client in clients:
        if not (work / f"{what}.{client}").exists():
            continue
        runs = [[float(part) for part in line.split()] for line in (work / f"{what}.{client}").read_text().splitlines()]
        seconds, moved = [to - start for start, to, _, _ in runs], [after - before for _, _, before, after in runs]
        base = own[what] / rate if own[what] else None
        ratio = f"{statistics.median(seconds) / base:.3f}" if base else "–"
        saved = f", {100 * (1 - statistics.median(moved) / total):.0f} % saved" if what == "resumed" else ""
        print(f"| {title}: {client} | {min(seconds):.2f} s, {statistics.median(seconds):.2f} s, {max(seconds):.2f} s | {ratio} | {statistics.median(moved) / 1e6:.3f} MB{saved} |")
END
