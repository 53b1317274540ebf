#!/usr/bin/env bash
# incremental.sh BINARY [KIND...]: the build after a change of one line, and its push: `cicd build-image` and `push-ecr` beside
# `docker buildx build --push`, in turn, over ten commits in a row. KIND is fastapi, node or go.
#
# First on the engine that stays, then on a builder that is new for each build and has only the cache in a registry: buildx makes one
# of its driver docker-container and removes it, and that is counted, for both.
set -euo pipefail
binary=$1
shift
(($#)) || set -- fastapi node go
commits=${BENCH_COMMITS:-10}
fresh_commits=${BENCH_FRESH_COMMITS:-$commits}
work=$(mktemp -d)
storage=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo "$work")")
buildkit=${BENCH_BUILDKIT:-cicd/buildkit:tests}
builder=cicd-bench-$$
started=()
registry=none
tidy_up() {
  docker buildx rm "$builder" >/dev/null 2>&1 || true
  docker images --format '{{.Repository}}:{{.Tag}}' "$registry/*" | xargs --no-run-if-empty docker rmi >/dev/null 2>&1 || true # buildx keeps what it pushed
  kill "${started[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work" "$storage"
}
trap tidy_up EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: "127.0.0.1:%s"}\n' \
  "$storage" "$port" >"$work/registry.yaml"
docker-registry serve "$work/registry.yaml" >"$work/registry.log" 2>&1 &
started+=($!)
registry=localhost:$port
for ((tries = 0; tries < 100; tries++)); do
  ! curl -sf -o /dev/null "http://$registry/v2/" || break
  sleep 0.05
done

printf '[registry."docker.io"]\nmirrors = ["%s"]\n[registry."%s"]\nhttp = true\n' "$registry" "$registry" >"$work/buildkitd.toml"

commit() {
  git -C "$service" add --all
  git -C "$service" -c user.name=bench -c user.email=bench@example.org commit --quiet --message "$1"
  revision=$(git -C "$service" rev-parse HEAD)
}

# The services. `init` writes the Dockerfiles of those that have none here.
make_fastapi() {
  cp -r examples/fastapi "$service"
  line=patients/main.py comment='#'
}
make_node() {
  mkdir -p "$service/src"
  cat >"$service/package.json" <<'END'
{"name": "bench", "version": "1.0.0", "private": true, "main": "src/server.js", "scripts": {"start": "node src/server.js"},
 "dependencies": {"express": "5.1.0", "pino": "9.7.0", "zod": "3.25.0"}}
END
  cat >"$service/src/server.js" <<'END'
const express = require("express");
const app = express();
app.get("/healthz", (request, response) => response.send("ok"));
app.get("/", (request, response) => response.json({ mode: process.env.APP_MODE === "debug" ? "debug" : "production" }));
const server = app.listen(Number(process.env.PORT || 3000), "0.0.0.0");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
END
  (cd "$service" && npm install --silent --package-lock-only --no-audit --no-fund >/dev/null)
  line=src/server.js comment=//
}
make_go() {
  mkdir -p "$service"
  printf 'module example.org/bench\n\ngo 1.24\n' >"$service/go.mod"
  cat >"$service/main.go" <<'END'
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	mode := os.Getenv("APP_MODE")
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, mode, change) })
	if err := http.ListenAndServe(":8080", nil); err != nil {
		panic(err)
	}
}
END
  line=change.go comment=
}

# change NUMBER: one line more, which a compiler does not leave out.
change() {
  if [[ -n $comment ]]; then
    echo "$comment line $1 of $$" >>"$service/$line"
  else
    printf 'package main\n\nconst change = "line %s of %s"\n' "$1" "$$" >"$service/$line"
  fi
}

ours() {
  "$binary" build-image --skip-contract --quiet --output json --service "$service/service.yaml" --layout "$service/target/image" --version "1.0.$1" "${@:3}" >/dev/null
  "$binary" push-ecr --quiet --output json --service "$service/service.yaml" --layout "$service/target/image" --repository "$registry/$kind-cicd$2" --tag "1.0.$1" >"$work/pushed"
}
# What `docker buildx build --push` does with one image; without the attestations that neither makes here.
theirs() {
  docker buildx build --quiet --provenance=false --build-arg "VERSION=1.0.$1" --build-arg "REVISION=$revision" --label "org.opencontainers.image.revision=$revision" \
    "${@:3}" --push --tag "$registry/$kind-buildx$2:1.0.$1" "$service" >/dev/null 2>"$work/buildx.log" || { cat "$work/buildx.log" >&2; return 1; }
}
# It takes base images from the registry here.
fresh_builder() {
  docker buildx create --name "$builder" --driver docker-container --driver-opt "image=$buildkit,network=host" \
    --buildkitd-config "$work/buildkitd.toml" --bootstrap >/dev/null 2>&1
}
publish_base() {
  docker tag "$1" "$registry/library/$1"
  docker push --quiet "$registry/library/$1" >/dev/null
  docker rmi "$registry/library/$1" >/dev/null
}
ours_on_fresh() {
  fresh_builder
  rm -rf "$service/target"
  BUILDX_BUILDER=$builder ours "$@" --cache "registry:$registry/$kind-cache-cicd:main"
  docker buildx rm "$builder" >/dev/null 2>&1
}
theirs_on_fresh() {
  fresh_builder
  theirs "$@" --builder "$builder" --cache-from "type=registry,ref=$registry/$kind-cache-buildx:main" \
    --cache-to "type=registry,ref=$registry/$kind-cache-buildx:main,mode=max,image-manifest=true,oci-mediatypes=true"
  docker buildx rm "$builder" >/dev/null 2>&1
}

# seconds FILE COMMAND...: writes down how long it takes.
seconds() {
  local file=$1 from=$EPOCHREALTIME
  shift
  "$@"
  python3 -c 'import sys; print(float(sys.argv[2]) - float(sys.argv[1]))' "$from" "$EPOCHREALTIME" >>"$file"
}

layers() {
  python3 - "$service/target/image" <<'END'
import json, pathlib, sys
layout = pathlib.Path(sys.argv[1])
read = lambda digest: json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())
for layer in read(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])["layers"]:
    print(layer["digest"], layer["size"])
END
}

# pairs NAME OURS THEIRS TAIL TITLE COMMITS: over the commits, after one that fills the caches of both.
pairs() {
  local name=$1 commits=$6 number
  "$2" "0" "$4" && layers >"$work/layers" && "$3" "0" "$4"
  for ((number = 1; number <= commits; number++)); do
    change "$number$4"
    commit "fix: line $number"
    # A B, then B A: whoever is second finds the files in memory.
    if ((number % 2)); then seconds "$work/$name.ours" "$2" "$number" "$4"; fi
    seconds "$work/$name.theirs" "$3" "$number" "$4"
    ((number % 2)) || seconds "$work/$name.ours" "$2" "$number" "$4"
    python3 -c 'import json, sys; print(json.load(sys.stdin)["uploaded-bytes"])' <"$work/pushed" >>"$work/$name.moved"
    layers | tee "$work/layers.now" | { grep -vxFf "$work/layers" || true; } | awk '{ printf "%s ", $2 } END { print "" }' >>"$work/$name.new"
    mv "$work/layers.now" "$work/layers"
  done
  python3 - "$work/$name" "$kind, $5" "$(wc -l <"$work/layers")" <<'END'
import statistics, sys
name, title, count = sys.argv[1:]
ours, theirs, moved = ([float(line) for line in open(f"{name}.{kind}")] for kind in ("ours", "theirs", "moved"))
row = lambda numbers, form: " | ".join(form.format(number) for number in (min(numbers), statistics.median(numbers), max(numbers)))
print(f"| {title}: cicd | {row(ours, '{:.2f} s')} |")
print(f"| {title}: buildx --push | {row(theirs, '{:.2f} s')} |")
print(f"| {title}: cicd / buildx | {row([a / b for a, b in zip(ours, theirs)], '{:.2f}')} |")
print(f"| {title}: moved | {row([each / 1000 for each in moved], '{:.1f} kB')} |")
new = [[int(size) for size in line.split()] for line in open(f"{name}.new")]
print(f"{title}, {count} layers; new in each commit, in bytes: " + ", ".join("+".join(map(str, sizes)) or "none" for sizes in new), file=open(f"{name}.layers", "w"))
END
}

printf '## The next build\n\n| %s commits of one line | minimum | median | maximum |\n|---|---|---|---|\n' "$commits"
for kind; do
  service=$work/$kind
  "make_$kind"
  git -C "$service" init --quiet --initial-branch main
  [[ -f $service/Dockerfile ]] || (cd "$service" && "$binary" init --quiet >/dev/null 2>&1)
  change start
  commit "feat: bench"
  sed -nE 's/^(ARG BASE=|FROM )([a-z]+:[^ @]+).*/\2/p' "$service/Dockerfile" | sort -u | while read -r base; do publish_base "$base"; done
  pairs "$kind" ours theirs "" "an engine that stays" "$commits"
  pairs "$kind-fresh" ours_on_fresh theirs_on_fresh -fresh "a builder that is new each time" "$fresh_commits"
done
printf '\nWhat moved, by layer:\n\n'
for kind; do
  sed 's/^/- /' "$work/$kind.layers" "$work/$kind-fresh.layers"
done
