# shellcheck shell=bash
# `./dev demo`: the pipeline on examples/fastapi, and the service's answer to a request.

DEMO_SERVICE=examples/fastapi/service.yaml

# demo_local BINARY
demo_local() {
  local result
  result=$(run_pipeline "$1" local)
  ask "$(url_of "$result")"
}

# demo_aws BINARY
demo_aws() {
  local result
  eval "$(stack_environment)"
  result=$(run_pipeline "$1" staging)
  say "  asks    the service in Kubernetes, through the API server"
  kubectl get --raw /api/v1/namespaces/staging/services/patients:http/proxy/
  echo
  result=$(run_pipeline "$1" production)
  ask "$(url_of "$result")"
}

# run_pipeline BINARY ENVIRONMENT: the object with the outputs is the result; progress goes to the terminal.
run_pipeline() {
  say "  runs    cicd run --environment $2"
  "$1" run --service "$DEMO_SERVICE" --environment "$2" --output json
}

url_of() { python3 -c 'import json, sys; print(json.load(sys.stdin)["url"])' <<<"$1"; }

# Names under .localhost are this machine by definition (RFC 6761), but not every resolver knows.
ask() {
  local host port
  host=$(sed -nE 's#^https?://([^/:]+).*#\1#p' <<<"$1")
  port=$(sed -nE 's#^https?://[^/:]+:([0-9]+).*#\1#p' <<<"$1")
  say "  asks    $1"
  curl -sS --fail-with-body --max-time 10 --resolve "$host:${port:-80}:127.0.0.1" "$1"
  echo
}
