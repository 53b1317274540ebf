#!/usr/bin/env bash
# fleet.sh BINARY: the fleet page of 1,000 services in 5 environments with 200 records each, all of it and with one new record; and
# beside it what reading the same files takes without looking at them. The files are in memory where there is room, as what is measured
# is the program. Targets: 10 s, 512 MiB; 1 s; 1 MB for the first page.
set -euo pipefail
binary=$1
services=${BENCH_SERVICES:-1000}
work=$(mktemp -d -p "${BENCH_FOLDER:-${TMPDIR:-/tmp}}")
trap 'rm -rf "$work"' EXIT
python3 bench/records.py "$work/records" --services "$services" --records 200
count=$((services * 5 * 200))
report="$binary report --quiet --records $work/records --to $work/site"
pair() { python3 bench/pair.py --processor "$@"; }
printf '## report\n\n%s records of %s services.\n\n| what | time | memory | processor |\n|---|---|---|---|\n' "$count" "$services"
pair --runs "${BENCH_ROUNDS:-3}" "all of them" "sh -c 'rm -rf $work/site && $report'" "cat of the same files" "sh -c 'find $work/records -name \"*.json\" -print0 | xargs -0 cat'"
pair --runs 5 "nothing new" "$report"
# Each run finds one more record.
cat >"$work/more.sh" <<END
set -e
next=\$(cat $work/next 2>/dev/null || echo 200)
echo \$((next + 1)) >$work/next
python3 bench/records.py $work/records --records \$next --more 1
END
cat >"$work/new.sh" <<END
sh $work/more.sh
exec $report
END
pair --runs 5 "one new record, and its making" "sh $work/new.sh" "its making" "sh $work/more.sh"
printf '\nThe first page has %s bytes, the page of a service %s, all of the site %s, the index %s.\n' \
  "$(stat -c %s "$work/site/index.html")" "$(stat -c %s "$work/site/services/service-0000.html")" \
  "$(du -sb --exclude .index "$work/site" | cut -f1)" "$(du -sb "$work/site/.index" | cut -f1)"
