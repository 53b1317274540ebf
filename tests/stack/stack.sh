# shellcheck shell=bash
# A stack: one registry, one AWS, its image scans, one description of GitHub, one OIDC issuer and one Kubernetes, under a name. Stacks of
# different names run side by side on ports of their own. All of a stack's state is in $STATE, all of its logs in $LOGS.

STATE=$CACHE/stacks/$STACK
LOGS=$CACHE/logs/$STACK/stack
ACCOUNT=111122223333
REGION=eu-west-1
OIDC_BEARER=stack-oidc-request-token
DAEMONS=(registry oidc aws moto github)
registry_port='' oidc_port='' aws_port='' moto_port='' github_port='' cluster_port='' # set by $STATE/ports
gateway='' # the host's address on Docker's bridge: what containers reach it by

[[ $STACK =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] || die "CICD_STACK is lower-case letters, digits and dashes: $STACK"

stack_up() { mkdir -p "$CACHE/stacks" && locked "stacks/.$STACK" start_parts; }
stack_down() { mkdir -p "$CACHE/stacks" && locked "stacks/.$STACK" step "stack $STACK stops" stop_parts; }

start_parts() {
  stop_parts
  local started
  started=$(now_ms)
  mkdir -p "$STATE"
  rm -rf "$LOGS"
  mkdir -p "$LOGS"
  choose_ports
  gateway=$(docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}')
  # shellcheck disable=SC2034 # progress.sh runs it
  on_failure=stack_failed
  together start_registry start_oidc start_aws start_moto start_github
  step "platform: network, load balancer, roles, ECS, EKS" make_platform
  write_environment
  # shellcheck disable=SC2034
  on_failure=
  say "  ok      stack $STACK is up ($(seconds_since "$started"))"
}

stack_failed() {
  local part container
  say "the stack did not start; its logs are in $LOGS"
  for container in $(docker ps -a --filter "label=cicd.stack=$STACK" --format '{{.Names}}'); do
    docker logs "$container" >"$LOGS/$container.log" 2>&1
    say "--- $container.log"
    tail -n 5 "$LOGS/$container.log" >&2
  done
  for part in "${DAEMONS[@]}"; do
    [[ ! -s $LOGS/$part.log ]] || { say "--- $part.log"; tail -n 5 "$LOGS/$part.log" >&2; }
  done
  stop_parts
}

# Ports that are free now, together, so that no two are the same. The cluster's is the first of ten, as the emulator
# counts up from it.
choose_ports() {
  "$(python_command)" - >"$STATE/ports" <<'END'
import contextlib, random, socket

def free(port):
    with contextlib.closing(socket.socket()) as s:
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False

# Below the range from which the kernel takes ports for outgoing connections: they would not stay free.
candidates = random.sample(range(10100, 32000, 20), 200)
for name in ("registry_port", "oidc_port", "aws_port", "moto_port", "github_port", "cluster_port"):
    while not all(free(candidates[-1] + n) for n in range(10)):
        candidates.pop()
    print(f"{name}={candidates.pop()}")
END
  # shellcheck source=/dev/null
  source "$STATE/ports"
}

# daemon NAME COMMAND...
daemon() {
  detached "${@:2}" >>"$LOGS/$1.log" 2>&1
  # shellcheck disable=SC2154 # set by `detached`
  printf '%s' "$spawned" >"$STATE/$1.pid"
}

# until_answers NAME URL
until_answers() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    ! curl -sf -o /dev/null --max-time 2 "$2" || return 0
    daemon_runs "$1" || break
    sleep 0.1
  done
  say "$1 does not answer at $2; its log: $LOGS/$1.log"
  return 1
}

# By its command line too, as a process id may have been given to someone else since a reboot.
daemon_runs() {
  [[ -s $STATE/$1.pid ]] && process_runs "$(<"$STATE/$1.pid")" &&
    ps -o args= -p "$(<"$STATE/$1.pid")" | grep -q -e "$STATE" -e "$STACK_SOURCES" -e "$CACHE/python-moto"
}

start_registry() { step "registry" run_registry; }
run_registry() {
  write_registry_settings "$STATE/registry.yaml" "$STATE/registry" "$registry_port"
  daemon registry docker-registry serve "$STATE/registry.yaml"
  until_answers registry "$(registry_url)"
}
registry_url() { printf 'http://127.0.0.1:%s/v2/' "$registry_port"; }

start_oidc() { step "OIDC issuer" run_oidc; }
run_oidc() {
  daemon oidc "$CACHE/python-aws/current/bin/python" "$STACK_SOURCES/oidc.py" --port "$oidc_port" --bind 127.0.0.1 --bind "$gateway" --bearer "$OIDC_BEARER"
  until_answers oidc "$(oidc_url)"
}
oidc_url() { printf 'http://127.0.0.1:%s/.well-known/openid-configuration' "$oidc_port"; }

start_aws() { step "AWS" run_aws; }
run_aws() {
  daemon aws "$CACHE/python-aws/current/bin/python" "$STACK_SOURCES/aws.py" --stack "$STACK" --state "$STATE" --logs "$LOGS" \
    --port "$aws_port" --bind 127.0.0.1 --bind "$gateway" --account "$ACCOUNT" --region "$REGION" \
    --node-image "$(node_image)" --cluster-port "$cluster_port" --iam "${CICD_STACK_IAM:-on}"
  until_answers aws "$(aws_url)"
}
aws_url() { printf 'http://127.0.0.1:%s/_ministack/health' "$aws_port"; }

start_moto() { step "image scans" run_moto; }
run_moto() {
  daemon moto env MOTO_ACCOUNT_ID="$ACCOUNT" "$CACHE/python-moto/current/bin/python" -m moto.server --host 127.0.0.1 --port "$moto_port"
  until_answers moto "$(moto_url)"
}
moto_url() { printf 'http://127.0.0.1:%s/moto-api/' "$moto_port"; }

make_platform() {
  AWS_ENDPOINT_URL=http://localhost:$aws_port AWS_DEFAULT_REGION=$REGION AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
    aws_python "$STACK_SOURCES/infrastructure.py" --stack "$STACK" --state "$STATE" --logs "$LOGS" \
    --account "$ACCOUNT" --region "$REGION" --oidc-url "http://localhost:$oidc_port"
}

write_environment() {
  {
    printf 'export %s=%q\n' \
      AWS_ENDPOINT_URL "http://localhost:$aws_port" \
      AWS_REGION "$REGION" \
      AWS_DEFAULT_REGION "$REGION" \
      AWS_ACCESS_KEY_ID test \
      AWS_SECRET_ACCESS_KEY test \
      KUBECONFIG "$STATE/kubeconfig" \
      INPUT_PLATFORM "$STATE/platform.yaml" \
      CICD_STACK_STATE "$STATE" \
      CICD_STACK_REGISTRY "localhost:$registry_port" \
      CICD_STACK_SCANS "http://127.0.0.1:$moto_port" \
      CICD_STACK_GITHUB "127.0.0.1:$github_port" \
      CICD_STACK_AWS_LOG "$LOGS/requests.log" \
      CICD_STACK_AUDIT_LOG "$LOGS/clusters/clinicult-staging/audit.log" \
      CICD_STACK_OIDC_URL "http://localhost:$oidc_port/token?api-version=2.0" \
      CICD_STACK_OIDC_BEARER "$OIDC_BEARER" \
      CICD_STACK_GATEWAY "$gateway"
    [[ -z ${DOCKER_HOST:-} ]] || printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"
    # shellcheck disable=SC2016 # the shell that evaluates this has a PATH of its own
    printf 'export PATH=%q:%q:"$PATH"\n' "$CACHE/bin" "$CACHE/python-tools/current/bin"
  } >"$STATE/environment.making"
  mv "$STATE/environment.making" "$STATE/environment"
}

stack_environment() {
  [[ -f $STATE/environment ]] || die "stack $STACK is not up: ./dev stack up"
  cat "$STATE/environment"
}

# One line for each part. Fails when one of them does not answer.
stack_status() {
  local part code=0
  if [[ ! -f $STATE/ports ]]; then
    say "  down    stack $STACK"
    return 1
  fi
  # shellcheck source=/dev/null
  source "$STATE/ports"
  for part in registry oidc aws moto github; do
    if curl -sf -o /dev/null --max-time 5 "$("${part}_url")"; then
      say "  ok      $part ($("${part}_url"))"
    else
      say "  failed  $part ($("${part}_url")); log: $LOGS/$part.log"
      code=1
    fi
  done
  if [[ -f $STATE/kubeconfig && $("$CACHE/bin/kubectl" --kubeconfig "$STATE/kubeconfig" --request-timeout 5s get --raw /readyz 2>/dev/null) == ok ]]; then
    say "  ok      Kubernetes (https://localhost:$cluster_port)"
  else
    say "  failed  Kubernetes; logs: $LOGS/clusters"
    code=1
  fi
  return "$code"
}

stack_is_up() { [[ -f $STATE/environment ]] && engine_ready && stack_status 2>/dev/null; }

# The engine that we started ends with the last stack, unless something that is not ours runs on it by now: a service
# deployed to this machine, for one.
stop_unused_engine() {
  [[ -z $(find "$CACHE/stacks" -mindepth 1 -maxdepth 1 -type d -print -quit) ]] && we_started_engine || return 0
  if [[ -n $(docker ps -q) ]]; then
    say "  the Docker engine goes on, as other containers run on it: docker ps"
    return
  fi
  step "Docker engine stops" stop_engine
}

# The emulator goes first, or it would replace the containers that are removed here.
stop_parts() {
  local part pids=() pid
  for part in aws moto oidc registry github; do
    ! daemon_runs "$part" || pids+=("$(<"$STATE/$part.pid")")
  done
  for pid in "${pids[@]}"; do kill -KILL "$pid"; done
  for pid in "${pids[@]}"; do
    while process_runs "$pid"; do sleep 0.02; done
  done
  [[ -z $(docker_client) ]] || remove_containers_and_images
  as_root rm -rf "$STATE"
}

# Twice, as a container whose creation was under way when the emulator ended may appear after the first look.
remove_containers_and_images() {
  local containers images
  for _ in 1 2; do
    containers=$(docker ps -aq --filter "label=cicd.stack=$STACK")
    # shellcheck disable=SC2086 # one id is one word
    [[ -z $containers ]] || docker rm -fv $containers >/dev/null
    sleep 0.2
  done
  [[ -f $STATE/ports ]] || return 0
  # shellcheck source=/dev/null
  source "$STATE/ports"
  images=$(docker images --format '{{.Repository}}@{{.Digest}} {{.Repository}}:{{.Tag}}' | grep -E "^localhost:($aws_port|$registry_port)/" | tr ' ' '\n' | grep -v '<none>' | sort -u || true)
  # shellcheck disable=SC2086
  [[ -z $images ]] || docker rmi -f $images >/dev/null 2>&1 || true
}
