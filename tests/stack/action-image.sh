# shellcheck shell=bash
# `./dev image`: the action's image, from the binary that cargo built on this machine and the buildx that is installed
# here: the Dockerfile's stages of these names would build both from nothing, which takes long.

ACTION_IMAGE=cicd:local

# build_action_image BINARY: prints the image's reference on stdout, and for people the layers' sizes.
build_action_image() {
  local folder=$CACHE/action-image
  rm -rf "$folder"
  mkdir -p "$folder/compile" "$folder/buildx"
  strip --output-file="$folder/compile/cicd" "$1" # nothing to strip from a release, most of a debug build
  cp "$(buildx_path)" "$folder/buildx/docker-buildx"
  step "action image" buildx_build "$folder" "type=oci,dest=$folder/layout,tar=false"
  step "docker image $ACTION_IMAGE" buildx_build "$folder" type=docker
  print_layers "$folder/layout" >&2
  printf 'cicd@%s\n' "$(docker image inspect --format '{{.Id}}' "$ACTION_IMAGE")"
}

# buildx_build FOLDER OUTPUT
buildx_build() {
  docker buildx build --progress plain --provenance=false --tag "$ACTION_IMAGE" \
    --build-context "compile=$1/compile" --build-context "buildx=$1/buildx" \
    --build-context "base=docker-image://debian:trixie-slim" --output "$2" .
}

buildx_path() { docker info --format '{{range .ClientInfo.Plugins}}{{if eq .Name "buildx"}}{{.Path}}{{end}}{{end}}'; }

# The size of each layer as it is pulled, beside the instruction that made it.
print_layers() {
  python3 - "$1" <<'END'
import json, pathlib, sys

blobs = pathlib.Path(sys.argv[1]) / "blobs"


def read(descriptor):
    return json.loads((blobs / descriptor["digest"].replace(":", "/")).read_text())


manifest = read(json.loads((blobs.parent / "index.json").read_text())["manifests"][0])
made_by = [step.get("created_by", "") for step in read(manifest["config"])["history"] if not step.get("empty_layer")]
for layer, command in zip(manifest["layers"], made_by):
    print(f"{layer['size'] / 1e6:9.2f} MB  {command[:100]}")
print(f"{sum(layer['size'] for layer in manifest['layers']) / 1e6:9.2f} MB  compressed, all layers")
END
}
