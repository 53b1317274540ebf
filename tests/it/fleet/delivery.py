#!/usr/bin/env python3
"""delivery.py FOLDER PRODUCTION: the figures of delivery from the records themselves, by the definitions in docs/fleet.md and none of
the program's code."""
import collections
import datetime
import json
import pathlib
import statistics
import sys

ROOT, PRODUCTION = pathlib.Path(sys.argv[1]) / "cicd", sys.argv[2]
parse = datetime.datetime.fromisoformat


def spread(values):
    if not values:
        return None
    if len(values) == 1:
        quarters, tenths = [values[0]] * 3, [values[0]] * 9
    else:
        quarters = statistics.quantiles(values, n=4, method="inclusive")
        tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {"count": len(values), "minimum": min(values), "quarter": quarters[0], "median": statistics.median(values),
            "three-quarters": quarters[2], "ninety": tenths[8], "maximum": max(values)}


def monday(time):
    day = time.astimezone(datetime.timezone.utc).date()
    return day - datetime.timedelta(days=day.weekday())


def changes_of(service):
    committed = {}
    for file in service.rglob("records/*.json"):
        record = json.loads(file.read_text())
        if record["kind"] == "deploy" and "committed" in record:
            time = parse(record["committed"])
            committed[record["digest"]] = min(time, committed.get(record["digest"], time))
    found = []
    for ledger in sorted((service / PRODUCTION).glob("*/records")):
        records = [json.loads(file.read_text()) for file in sorted(ledger.glob("*.json"))]
        records = [one for one in records if one["result"] not in ("interrupted", "superseded")]
        running, seen = None, set()
        for at, record in enumerate(records):
            brought = record["digest"], record.get("config-hash")
            deployed = record["result"] == "deployed"
            repeated, running = deployed and brought == running, brought if deployed else running
            if record["kind"] == "rollback" or repeated:
                continue
            taken_back = records[at + 1:at + 2] and records[at + 1]["kind"] == "rollback"
            failed = not deployed or bool(taken_back)
            change = {"week": monday(parse(record["ended"])), "deployed": deployed, "failed": failed}
            if deployed and record["digest"] not in seen:
                seen.add(record["digest"])
                if record["digest"] in committed:
                    change["lead"] = max(0.0, (parse(record["ended"]) - committed[record["digest"]]).total_seconds())
            if failed:
                rest = records[at + 1:] if deployed else records[at:]
                good = [one for one in rest if one["result"] in ("deployed", "rolled-back")]
                if good:
                    change["restored"] = max(0.0, (parse(good[0]["ended"]) - parse(record["started"])).total_seconds())
            found.append(change)
    return found


def figures(changes):
    weeks = [change["week"] for change in changes]
    failed, deployed = sum(c["failed"] for c in changes), sum(c["deployed"] for c in changes)
    found = {"changes": len(changes), "deployed": deployed, "failed": failed}
    if changes:
        found["failure-rate"] = failed / len(changes)
        found["weekly"] = deployed / ((max(weeks) - min(weeks)).days // 7 + 1)
    for name, key in (("lead-time", "lead"), ("time-to-restore", "restored")):
        if times := spread([change[key] for change in changes if key in change]):
            found[name] = times
    return found


services = {folder.name: changes_of(folder) for folder in sorted(ROOT.iterdir()) if folder.is_dir()}
everything = [change for changes in services.values() for change in changes]
weeks = collections.defaultdict(list)
for change in everything:
    weeks[str(change["week"])].append(change)
print(json.dumps({
    "delivery": figures(everything),
    "weeks": {week: figures(changes) for week, changes in sorted(weeks.items())},
    "services": {name: figures(changes) for name, changes in services.items()},
}))
