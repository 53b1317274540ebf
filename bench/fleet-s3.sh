#!/usr/bin/env bash
# fleet-s3.sh BINARY: the fleet page from a bucket, and by how many requests: all of it, with nothing new, and with one new record. On the
# stack: ./dev stack up. The emulator's S3 answers slowly; the number of requests is what another S3 would see too.
set -euo pipefail
binary=$1
services=${BENCH_SERVICES:-40}
work=$(mktemp -d)
bucket=bench-fleet-$(date +%s)
eval "$(./dev stack env)"
trap 'rm -rf "$work"; aws s3 rb --force "s3://$bucket" >/dev/null' EXIT
python3 bench/records.py "$work/records" --services "$services" --records 50
aws s3 mb "s3://$bucket" >/dev/null
send() { aws s3 sync --only-show-errors "$work/records" "s3://$bucket"; }
send
cat >"$work/platform.yaml" <<END
registry: {account: "000000000000", region: $AWS_REGION}
records: {bucket: $bucket, region: $AWS_REGION}
END
count=$((services * 5 * 50))
printf '%s records of %s services in 5 environments.\n\n| what | time | requests | records read |\n|---|---|---|---|\n' "$count" "$services"
# measure NAME: one report, and what it asked of the bucket.
measure() {
  local before
  before=$(stat -c %s "$CICD_STACK_AWS_LOG")
  python3 - "$1" "$CICD_STACK_AWS_LOG" "$before" "$bucket" "$binary" report --quiet --platform "$work/platform.yaml" --to "$work/site" <<'END'
import json, subprocess, sys, time
name, log, before, bucket, *command = sys.argv[1:]
started = time.monotonic()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
seconds = time.monotonic() - started
time.sleep(1)
with open(log, "rb") as lines:
    lines.seek(int(before))
    asked = [line for line in map(json.loads, lines) if bucket in json.dumps(line)]
records = sum("/records/" in line["path"] for line in asked)
print(f"| {name} | {seconds:.2f} s | {len(asked)} | {records} |")
END
}
measure "all of them"
measure "nothing new"
python3 bench/records.py "$work/records" --records 50 --more 1
send
measure "one new record"
