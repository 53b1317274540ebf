#!/usr/bin/env bash
# act.sh SERVICE IMAGE EVENT GITHUB [FROM [OPTION...]]: runs the workflows of the service repository SERVICE for EVENT (push, pull_request, workflow_dispatch, ...) with
# act, this repository's own action and reusable workflow standing in for clinicult/cicd@v1. IMAGE is the action's image,
# GITHUB the address of GitHub's API, FROM the repository that a pull request comes from: by default the service's own. The options are
# act's: --secret NAME=VALUE, --input NAME=VALUE. ACT_EVENT is JSON that is merged into the event. ACT_KEPT is a folder for what a run
# leaves at GitHub, artifacts and caches: by default it is gone with the run.
#
# act knows no `$/` and no image of a local Dockerfile with build contexts, so it gets a copy of this repository in which both
# are written as a release writes them: the action by its full SHA, its image by digest. It has no concurrency, and refuses its `queue` and `deployment`.
set -euo pipefail
service=$1 image=$2 event=$3 github=$4 from=${5:-clinicult/patients}
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${AWS_ENDPOINT_URL:?the stack is not up: eval \"\$(./dev stack env)\"}" "${CICD_STACK_OIDC_URL:?}" "${CICD_STACK_OIDC_BEARER:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The copy, as one commit: act resolves `uses:` through git.
git -C "$sources" ls-files -z --cached --others --exclude-standard -- action action.yml .github | tar -C "$sources" --null -T - -c | tar -C "$work" -x
sha=0123456789012345678901234567890123456789
sed -i "s#uses: \\$/action#uses: clinicult/cicd/action@$sha#; s#uses: \\$/\(.github.*\)#uses: clinicult/cicd/\1@$sha#; /^ *queue: max$/d; /^ *deployment: false$/d" "$work"/.github/workflows/*.yml
sed -i "s#^  image: .*#  image: docker://$image#" "$work/action/action.yml" "$work/action.yml"
git -C "$work" init -q -b main
git -C "$work" add -A
git -C "$work" -c user.name=act -c user.email=act@localhost commit -q -m release

# Artifacts, caches and Pages are GitHub's own: here they are folders.
actions=$(mktemp -d)
trap 'rm -rf "$work" "$actions"' EXIT
kept=${ACT_KEPT:-$actions/kept}
mkdir -p "$kept"
stand_ins=()
# stand_in NAME: an action of GitHub's that has no other part than the action.yml on stdin, and what stands beside it.
stand_in() {
  local folder=$actions/$1 version
  version=$(grep -oh "actions/$1@[0-9a-f]*" "$work"/.github/workflows/*.yml | head -1)
  mkdir -p "$folder"
  cat >"$folder/action.yml"
  git -C "$folder" init -q -b main
  git -C "$folder" add -A
  git -C "$folder" -c user.name=act -c user.email=act@localhost commit -q -m stand-in
  stand_ins+=(--local-repository "$version=$folder")
}
# run_instead NAME COMMAND: an action of one command.
run_instead() {
  stand_in "$1" <<END
name: $1
inputs:
  {name: {required: false}, pattern: {required: false}, path: {required: false}, overwrite: {required: false},
   if-no-files-found: {required: false}, compression-level: {required: false}, retention-days: {required: false}}
outputs:
  page_url: {value: "\${{ steps.it.outputs.page_url }}"}
runs:
  using: composite
  steps:
    - id: it
      shell: bash
      run: $2
END
}
# shellcheck disable=SC2016 # the runner fills in the inputs
{
  run_instead upload-artifact 'cp -r "${{ inputs.path }}" "'"$kept"'/${{ inputs.name }}"'
  run_instead download-artifact 'mkdir -p "${{ inputs.path }}" && cp -r "'"$kept"'/." "${{ inputs.path }}"'
  run_instead upload-pages-artifact 'rm -rf "'"$kept"'/github-pages" && cp -r "${{ inputs.path }}" "'"$kept"'/github-pages"'
  run_instead deploy-pages 'test -f "'"$kept"'/github-pages/index.html" && echo page_url=https://pages.invalid/ >> "$GITHUB_OUTPUT"'
}
# It saves when the job is over, as the true one: an entry is never written again, and the newest of a prefix is restored.
mkdir -p "$actions/cache"
cat >"$actions/cache/cache.js" <<END
const fs = require('fs'), at = '$kept/cache', input = name => process.env['INPUT_' + name.toUpperCase()] || '';
const entry = at + '/' + input('key');
fs.mkdirSync(at, {recursive: true});
if (process.env.STATE_restored) {
  if (!fs.existsSync(entry)) fs.cpSync(input('path'), entry, {recursive: true});
} else {
  const prefixes = [input('key'), ...input('restore-keys').split('\\n')].filter(Boolean);
  const time = name => fs.statSync(at + '/' + name).mtimeMs;
  const newest = fs.readdirSync(at).sort((a, b) => time(b) - time(a));
  const found = prefixes.map(prefix => newest.find(name => name.startsWith(prefix))).find(Boolean);
  if (found) fs.cpSync(at + '/' + found, input('path'), {recursive: true});
  fs.appendFileSync(process.env.GITHUB_STATE, 'restored=' + (found || 'nothing') + '\\n');
}
END
stand_in cache <<END
name: cache
inputs: {path: {required: true}, key: {required: true}, restore-keys: {required: false}}
runs: {using: node20, main: cache.js, post: cache.js}
END

cache=${XDG_CACHE_HOME:-$HOME/.cache}/act
mkdir -p "$cache"
cat >"$work/event.json" <<END
{"ref": "refs/heads/main", "repository": {"default_branch": "main", "full_name": "clinicult/patients"},
 "pull_request": {"number": 12, "head": {"ref": "topic", "sha": "$sha", "repo": {"full_name": "$from"}}, "base": {"ref": "main"}}}
END
# Inputs are part of the event, from which act takes them once there is one.
python3 - "$work/event.json" "${@:6}" <<'END'
import json, os, sys

file, arguments = sys.argv[1], sys.argv[2:]
event = json.load(open(file))
pairs = (value.split("=", 1) for option, value in zip(arguments, arguments[1:]) if option == "--input")
event["inputs"] = dict(pairs)
event |= json.loads(os.environ.get("ACT_EVENT", "{}"))
json.dump(event, open(file, "w"))
END

# A job starts without what this shell has: the platform and the credentials must come the way they come on GitHub.
unset INPUT_PLATFORM AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE KUBECONFIG

cd "$service"
# The action's container reaches the stack on loopback, as a service on a laptop does; outputs and summary reach the job only
# with act's own cache mounted where act expects it.
act "$event" --platform ubuntu-latest=-self-hosted --pull=false --eventpath "$work/event.json" \
  --local-repository "clinicult/cicd@v1=$work" --local-repository "clinicult/cicd@$sha=$work" "${stand_ins[@]}" \
  --cache-server-addr 127.0.0.1 \
  --container-options "--network host -v $cache:$cache" \
  --env "AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL" \
  --env "ACTIONS_ID_TOKEN_REQUEST_URL=$CICD_STACK_OIDC_URL" \
  --env "ACTIONS_ID_TOKEN_REQUEST_TOKEN=$CICD_STACK_OIDC_BEARER" \
  --env "GITHUB_API_URL=$github" --env GITHUB_REPOSITORY=clinicult/patients --secret GITHUB_TOKEN=test-github-token \
  --defaultbranch main "${@:6}"
