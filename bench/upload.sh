#!/usr/bin/env bash
# upload.sh LAYOUT REGISTRY: the blobs of a layout into a new repository, four at a time, by curl. Nothing is looked at and
# nothing is hashed: no client can be faster than this by much.
set -euo pipefail
repository=http://$2/v2/bench/$(</proc/sys/kernel/random/uuid)
upload() {
  local location
  location=$(curl -sS -D - -o /dev/null -X POST "$2/blobs/uploads/" | sed -nE 's/^Location: ([^\r]*).*/\1/ip')
  [[ $location == *\?* ]] && location+="&" || location+="?"
  curl -sSf -o /dev/null -H "Content-Type: application/octet-stream" -H "Expect:" -T "$1" "${location}digest=sha256:${1##*/}"
}
export -f upload
# shellcheck disable=SC2016 # the inner bash expands them
find "$1/blobs/sha256" -type f -print0 | xargs -0 -P 4 -I {} bash -c 'upload "$1" "$2"' upload {} "$repository"
