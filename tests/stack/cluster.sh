# shellcheck shell=bash
# Kubernetes: built from its Go modules (tests/stack/cluster/go.mod), put into a node image. The first build takes several
# minutes; later ones find it in the cache.

CLUSTER_SOURCES=$STACK_SOURCES/cluster
NODE_IMAGE=cicd/node

kubernetes_version() { sed -nE 's/^.*k8s.io\/kubernetes (v[0-9.]+)( .*)?$/\1/p' "$CLUSTER_SOURCES/go.mod"; }

# Without the version, all of it would say v0.0.0-master.
LINKER_FLAGS="-s -w -X k8s.io/component-base/version.gitVersion=$(kubernetes_version)"

setup_kubernetes() {
  go_tools kubernetes "Kubernetes $(kubernetes_version)" "$CLUSTER_SOURCES" "$LINKER_FLAGS" "eight minutes"
  # shellcheck disable=SC2154 # set by `cached`
  ln -sfn "$cached" "$CACHE/kubernetes/current"
  ln -sfn "$cached/kubectl" "$CACHE/bin/kubectl"
}

setup_node_image() {
  local image
  image=$(node_image)
  image_has_key "$image" "${image#*:}" || step "node image" build_node_image "${image#*:}"
}

node_image() {
  local sources
  mapfile -t sources < <(find "$CLUSTER_SOURCES/Dockerfile" "$CLUSTER_SOURCES/node" "$CLUSTER_SOURCES/etc" -type f | sort)
  printf '%s:%s' "$NODE_IMAGE" "$(hash_of "${sources[@]}" "$(readlink "$CACHE/kubernetes/current")" "$(docker image inspect --format '{{.Id}}' debian:trixie-slim)")"
}

# The first container of an image has to unpack it, which takes seconds: here, not in the start of a stack.
build_node_image() {
  build_local_image "$NODE_IMAGE:$1" "$1" "$CLUSTER_SOURCES/Dockerfile" "$CLUSTER_SOURCES" --build-context "binaries=$CACHE/kubernetes/current/"
  docker rm -fv "$(docker create "$NODE_IMAGE:$1")"
  # Earlier ones are a gigabyte each. One that a running stack uses cannot be removed, and stays.
  docker images "$NODE_IMAGE" --format '{{.Repository}}:{{.Tag}}' | grep -vF ":$1" | xargs -r docker rmi || true
}
