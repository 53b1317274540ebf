#!/usr/bin/env bash
# What the pipeline itself costs: the first useful line of a job's step once its image is there, and the CPU of every step of a merge but
# the build, with the rollout left out: the second time round nothing is built, sent or rolled out. On the stack: ./dev stack up.
set -euo pipefail
binary=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
eval "$(./dev stack env)"
cp -r examples/fastapi/. "$work"
name=bench-$(date +%s)
sed -i "s/^name: .*/name: $name/" "$work/service.yaml"
git -C "$work" init -q -b main
git -C "$work" add -A
git -C "$work" -c user.name=bench -c user.email=bench@example.org commit -qm "feat: first"
step() { (cd "$work" && "$binary" "$@" --quiet); }
step run --environment staging --skip-contract >/dev/null
python3 bench/pipeline.py "$binary" "$work"
kubectl -n staging delete deployment,service,serviceaccount,ingress,hpa,pdb -l "app.kubernetes.io/name=$name" --wait=false >/dev/null
aws ecr delete-repository --repository-name "clinicult/$name" --force >/dev/null
