# shellcheck shell=bash
# Steps: what runs now, how long it took, where its log is. Progress goes to stderr, so that stdout stays for results.
#
# Every step runs as a process group of its own. Ctrl-C reaches this shell only, which then ends the groups it started:
# a compiler or a daemon that is left behind would go on writing to a folder that nobody waits for.

groups=()
spawned=

say() { printf '%s\n' "$*" >&2; }
die() { say "dev: $*"; exit 1; }

now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' "$((t / 1000))"; }
seconds_since() { local ms=$(($(now_ms) - $1)); printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100)); }

# A process that has ended but was not yet collected by its parent does not run any more.
process_runs() { [[ $(ps -o stat= -p "$1" 2>/dev/null) == [^Z]* ]]; }

end_groups() {
  local group
  for group in "${groups[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
  for group in "${groups[@]}"; do wait "$group" 2>/dev/null || true; done
  groups=()
}
# on_failure is a command that tidies up when this shell ends with an error: with `|| tidy_up` after a function, bash
# would not stop at the first error inside it.
on_failure=
at_exit() {
  local code=$?
  end_groups
  [[ -z $unfinished ]] || rm -rf "$unfinished"
  if ((code)) && [[ -n $on_failure ]]; then
    local command=$on_failure
    on_failure=
    "$command"
  fi
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# spawn COMMAND ARG...: starts it in the background as a group of its own; its id is in $spawned. stdout and stderr are inherited.
spawn() {
  set -m
  # shellcheck disable=SC2030,SC2031 # the child has groups of its own, and ours must not reach it
  (
    set +m
    groups=()
    on_failure=
    unfinished=
    trap at_exit EXIT
    trap 'exit 143' TERM
    "$@"
  ) </dev/null &
  set +m
  spawned=$!
  # shellcheck disable=SC2031
  groups+=("$spawned")
}

# detached COMMAND ARG...: in the background and in a session of its own, to live on when this shell has ended. It takes no
# open file along: an inherited lock would stay locked as long as it runs. Its id is in $spawned.
detached() {
  (
    for descriptor in /proc/"$BASHPID"/fd/*; do
      ((${descriptor##*/} <= 2)) || eval "exec ${descriptor##*/}>&-"
    done
    exec setsid "$@"
  ) </dev/null &
  spawned=$!
}

# step NAME COMMAND ARG...: runs it, its output in a log; prints how long it took, or the end of the log when it failed.
step() {
  local name=$1 started log code=0 job ticker
  shift
  started=$(now_ms)
  log=$STEP_LOGS/$(tr -cs '[:alnum:]\n' - <<<"$name").log
  if [[ -n ${CICD_VERBOSE:-} ]]; then spawn "$@" >&2; else spawn "$@" >"$log" 2>&1; fi
  job=$spawned
  spawn tick "$name" "$started" "$log"
  ticker=$spawned
  wait "$job" || code=$?
  kill -TERM -- "-$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  groups=("${groups[@]/#%$job/}")
  groups=("${groups[@]/#%$ticker/}")
  forget_empty_groups
  if ((code)); then
    say "  failed  $name ($(seconds_since "$started"))"
    [[ -n ${CICD_VERBOSE:-} ]] || { tail -n 30 "$log" | sed 's/^/          /' >&2; say "          log: $log"; }
    return "$code"
  fi
  say "  ok      $name ($(seconds_since "$started"))"
}

forget_empty_groups() {
  local kept=() group
  for group in "${groups[@]}"; do [[ -z $group ]] || kept+=("$group"); done
  groups=("${kept[@]}")
}

# One line every 15 s, so that a long step is seen to be alive, with what it said last.
tick() {
  local silence
  exec {silence}<> <(:)
  until read -rt 15 -u "$silence"; do # a sleep of our own: ending a child would be reported on the terminal
    say "  ...     $1 ($(seconds_since "$2")) $(tail -n 1 "$3" 2>/dev/null | cut -c -100)"
  done
}

# together COMMAND...: runs functions (one word each) side by side, and fails when one of them failed.
together() {
  local jobs=() job command code=0
  for command in "$@"; do
    spawn "$command"
    jobs+=("$spawned")
  done
  for job in "${jobs[@]}"; do
    wait "$job" || code=$?
    groups=("${groups[@]/#%$job/}")
  done
  forget_empty_groups
  return "$code"
}
