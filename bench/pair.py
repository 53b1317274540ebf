#!/usr/bin/env python3
"""Times one command, or two in turn (A B A B …), as whole processes: median wall time, peak memory, and the ratio A/B pair by pair.

    pair.py [--runs N] [--processor] NAME COMMAND [NAME COMMAND]

Prints rows of a Markdown table; --processor adds the processor time of the process and its children. The machine may be noisy: believe the ratio, not the seconds.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time


def run(command):
    """Seconds, peak memory in MiB and processor seconds of one run; its output is thrown away."""
    started = time.monotonic()
    process = subprocess.Popen(["sh", "-c", f"exec {command}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"`{command}` ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("pairs", nargs="+", metavar="NAME COMMAND")
    arguments = parser.parse_args()
    names, commands = arguments.pairs[::2], arguments.pairs[1::2]
    for command in commands:  # caches are warm for both
        run(command)
    rounds = [[run(command) for command in commands] for _ in range(arguments.runs)]
    for column, name in enumerate(names):
        seconds = statistics.median(one[column][0] for one in rounds)
        memory = max(one[column][1] for one in rounds)
        processor = statistics.median(one[column][2] for one in rounds)
        more = f" {processor * 1000:.0f} ms |" if arguments.processor else ""
        print(f"| {name} | {seconds * 1000:.1f} ms | {memory:.0f} MiB |{more}")
    if len(commands) == 2:
        ratio = statistics.median(one[0][0] / one[1][0] for one in rounds)
        processor = statistics.median(one[0][2] / one[1][2] for one in rounds)
        more = f" {processor:.2f} |" if arguments.processor else ""
        print(f"| {names[0]} / {names[1]} | {ratio:.2f} | |{more}")


main()
