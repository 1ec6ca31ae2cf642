#!/usr/bin/env bash
# Training on a cluster that xpk made, GPUs or TPUs.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/gke/xpk.sh [--dry-run] NAME IMAGE [XPK OPTIONS…] -- ARGUMENTS…

Runs `xpk workload create` with `sa0 train ARGUMENTS…` as its command. XPK OPTIONS say where:
--cluster, --project, --zone, --device-type or --tpu-type, --num-nodes or --num-slices. Pods that end
with 75 (stopped, everything saved) are started again.

variable: SA0_MAX_RESTARTS, xpk's --max-restarts (default 100)
example: launch/gke/xpk.sh --dry-run paper example/sa0:1 --cluster=heads --project=mine \
           --zone=us-east5-a --tpu-type=v6e-16 --num-slices=1 -- --config=paper --workdir=runs/paper
END
}

fail() {
  echo "xpk.sh: $1" >&2
  exit 2
}

dry_run=''
while (($#)); do
  case $1 in
    --help) usage; exit 0 ;;
    --dry-run) dry_run=1; shift ;;
    *) break ;;
  esac
done
(($# >= 2)) || fail 'NAME IMAGE [XPK OPTIONS…] -- ARGUMENTS… (--help)'
name=$1 image=$2
shift 2
options=()
while (($#)) && [[ $1 != -- ]]; do
  options+=("$1")
  shift
done
(($#)) || fail 'ARGUMENTS come after --'
shift
# xpk takes one line for a shell.
printf -v command '%q ' sa0 train "$@"
line=(xpk workload create --workload="$name" --docker-image="$image"
  --max-restarts="${SA0_MAX_RESTARTS:-100}" --restart-on-exit-codes=75
  --termination-grace-period-seconds=180 "${options[@]}" --command="${command% }")
if [[ -n $dry_run ]]; then
  printf '%q ' "${line[@]}"
  echo
else
  exec "${line[@]}"
fi
