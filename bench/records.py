#!/usr/bin/env python3
"""Writes records as an organisation would have them: services × environments × records, the same for a seed.

    records.py FOLDER [--services N] [--environments a,b] [--records N] [--seed N] [--more N]

--more adds so many records to one ledger of what is there already.
"""
import argparse
import json
import pathlib
import random
from datetime import datetime, timedelta, timezone

CAUSES = ["probe-failed", "image-not-found", "container-exited", "out-of-memory", "unschedulable", "migration-failed"]
END = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)


def at(time):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def record(dice, service, environment, number, time, digest, commit, committed):
    kind = dice.choices(["deploy", "rollback", "promote"], [88, 4, 8])[0]
    result = dice.choices(
        ["deployed", "rolled-back", "failed", "timed-out", "interrupted", "superseded", "killed"], [86, 6, 2, 2, 1, 2, 1])[0]
    seconds = dice.uniform(8, 400)
    found = {
        "format": 1, "number": number, "service": service, "environment": environment, "kind": kind, "target": "eks",
        "version": f"1.{number}.{dice.randrange(9)}", "digest": digest, "commit": commit, "committed": at(committed),
        "who": dice.choice(["ada", "grace", "alan", "barbara"]),
        "run": {"url": f"https://github.com/clinicult/{service}/actions/runs/{number}", "repository": f"clinicult/{service}",
                "workflow": "ci", "number": number, "attempt": 1},
        "started": at(time), "pipeline-version": dice.choice(["1.0.0", "1.1.0", "1.2.0"]), "result": result, "good": result == "deployed",
        "ended": at(time + timedelta(seconds=seconds)),
        "phases": [{"name": "lock", "seconds": 0.2}, {"name": "apply", "seconds": 1.5}, {"name": "watch", "seconds": round(seconds, 1)}],
        "config-hash": f"{dice.getrandbits(64):016x}", "state-hash": f"{dice.getrandbits(256):064x}", "fence": number, "nonce": "0-0",
    }
    if number > 1:
        found["previous"] = number - 1
    if result not in ("deployed", "superseded", "interrupted"):
        found["causes"] = dice.sample(CAUSES, dice.choice([1, 1, 2]))
    if kind != "deploy":
        found["reason"] = "because the ward asked for it"
    return found


def write(folder, service, environment, count, seed, first=1):
    dice = random.Random(f"{seed} {service} {environment} {first}")
    ledger = folder / "cicd" / service / environment / "eks.main.apps"
    (ledger / "records").mkdir(parents=True, exist_ok=True)
    last = good = None
    for number in range(first, first + count):
        # A service's image is the same in each of its environments.
        image = random.Random(f"{seed} {service} {number}")
        digest, commit = f"sha256:{image.getrandbits(256):064x}", f"{image.getrandbits(160):040x}"
        committed = END - timedelta(hours=12 * (first + count - number), minutes=image.randrange(300))
        last = record(dice, service, environment, number, committed + timedelta(minutes=dice.randrange(20, 2000)), digest, commit, committed)
        good = last if last["good"] else good
        (ledger / "records" / f"{number:08}.json").write_text(json.dumps(last))
    (ledger / "head.json").write_text(json.dumps({"format": 1, "last": last, "good": good, "fence": last["number"], "nonce": "0-0"}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--services", type=int, default=10)
    parser.add_argument("--environments", default="dev,test,staging,demo,production")
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--more", type=int)
    found = parser.parse_args()
    if found.more:
        write(found.folder, "service-0000", "production", found.more, found.seed, found.records + 1)
        return
    for service in range(found.services):
        for environment in found.environments.split(","):
            write(found.folder, f"service-{service:04}", environment, found.records, found.seed)


main()
