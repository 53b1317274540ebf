#! /usr/bin/env bash
# The old base image ran this before each start.
echo "nothing to prepare"
