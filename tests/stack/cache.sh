# shellcheck shell=bash
# The cache: things that took long to make, outside the work tree, each under the hash of what it was made from.

CACHE=${CICD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cicd}
STACK=${CICD_STACK:-default}
STEP_LOGS=$CACHE/logs/$STACK/steps
mkdir -p "$CACHE/bin" "$STEP_LOGS"
cached=
unfinished=

# hash_of FILE-OR-TEXT...: one key for the content of the files, and for the words that name no file.
hash_of() {
  local input
  for input in "$@"; do
    if [[ -f $input ]]; then cat "$input"; else printf '%s\n' "$input"; fi
  done | sha256sum | cut -c -16
}

# locked NAME COMMAND...: runs it while no other dev on this machine holds the lock of that name.
locked() {
  local lock
  exec {lock}>"$CACHE/$1.lock"
  flock --nonblock "$lock" || { say "  waits   for another dev that holds $CACHE/$1.lock" && flock "$lock"; }
  "${@:2}"
  exec {lock}>&-
}

# cached KIND KEY MAKE...: the folder $CACHE/KIND/KEY, made by `MAKE... TEMPORARY-FOLDER` when it is not there. It appears
# by a rename, so an interrupted run leaves nothing that looks finished. The path is in $cached. Call it under a lock.
cached() {
  local kind=$1 key=$2
  shift 2
  cached=$CACHE/$kind/$key
  [[ ! -d $cached ]] || return 0
  mkdir -p "$CACHE/$kind"
  rm -rf "$CACHE/$kind"/.making.*
  unfinished=$CACHE/$kind/.making.$key
  mkdir "$unfinished"
  "$@" "$unfinished"
  mv "$unfinished" "$cached"
  unfinished=
  # Switching between branches finds what it had; nothing piles up.
  find "$CACHE/$kind" -mindepth 1 -maxdepth 1 -type d -printf '%T@ %p\n' | sort -rn | tail -n +4 | cut -d' ' -f2- | xargs -r rm -rf
}
