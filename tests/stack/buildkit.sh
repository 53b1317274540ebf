# shellcheck shell=bash
# BuildKit in an image of its own, for builds on an engine whose store writes no layout: built from its Go module
# (tests/stack/buildkit/go.mod), as there need be no container registry to pull moby/buildkit from.

BUILDKIT_SOURCES=$STACK_SOURCES/buildkit
BUILDKIT_IMAGE=cicd/buildkit:tests

buildkit_version() { sed -nE 's/^.*github.com\/moby\/buildkit (v[0-9.]+)( .*)?$/\1/p' "$BUILDKIT_SOURCES/go.mod"; }

# Without the version it would not say which it is; buildx asks.
buildkit_linker_flags() { printf -- '-s -w -X github.com/moby/buildkit/version.Version=%s' "$(buildkit_version)"; }

setup_buildkit() {
  local key
  go_tools buildkit "BuildKit $(buildkit_version)" "$BUILDKIT_SOURCES" "$(buildkit_linker_flags)" "four minutes"
  # shellcheck disable=SC2154 # set by `cached`
  key=$(hash_of "${cached##*/}" "$BUILDKIT_SOURCES/Dockerfile" "$(docker image inspect --format '{{.Id}}' debian:trixie-slim)")
  image_has_key "$BUILDKIT_IMAGE" "$key" ||
    step "$BUILDKIT_IMAGE" build_local_image "$BUILDKIT_IMAGE" "$key" "$BUILDKIT_SOURCES/Dockerfile" "$BUILDKIT_SOURCES" --build-context "binaries=$cached/"
}
