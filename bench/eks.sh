#!/usr/bin/env bash
# eks.sh BINARY: a deploy to Kubernetes beside `kubectl apply --server-side` of the same objects, in turn, each in a namespace of its own and without copies,
# so that nothing is waited for: a change of all objects, and nothing changed; time, requests, and memory, by number of objects and among 1,000 pods.
# Where helm is installed, beside `helm upgrade` too. On the stack: ./dev stack up.
set -euo pipefail
binary=$1
read -ra counts <<<"${BENCH_OBJECTS:-20 200 1000}"
work=$(mktemp -d)
eval "$(./dev stack env)"
name=bench-eks-$(date +%s)
trap 'rm -rf "$work"; aws ecr delete-repository --repository-name "clinicult/$name" --force >/dev/null' EXIT
cp -r examples/fastapi/. "$work"
sed -i "s/^name: .*/name: $name/" "$work/service.yaml"
git -C "$work" init -q -b main
git -C "$work" add -A
git -C "$work" -c user.name=bench -c user.email=bench@example.org commit -qm "feat: first"
(cd "$work" && "$binary" run --environment staging --skip-contract --quiet >/dev/null)
(cd "$work" && "$binary" status --environment staging --output json >image.json)
kubectl -n staging delete deployment,service,serviceaccount,ingress,hpa,pdb -l "app.kubernetes.io/name=$name" --wait=false >/dev/null
python3 bench/eks.py "$binary" "$work" "$name" "${counts[@]}"
