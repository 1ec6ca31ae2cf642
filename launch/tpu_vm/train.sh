#!/usr/bin/env bash
# Training on TPU VMs, by gcloud: every host of a slice runs the same command.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/tpu_vm/train.sh [--dry-run] create NAME ZONE TYPE [GCLOUD OPTIONS…]
       launch/tpu_vm/train.sh [--dry-run] install NAME ZONE WHEEL
       launch/tpu_vm/train.sh [--dry-run] run NAME ZONE ARGUMENTS…
       launch/tpu_vm/train.sh [--dry-run] delete NAME ZONE

create   makes the machines: TYPE is v5litepod-16, v6e-8, …; GCLOUD OPTIONS such as --spot,
         --version=… (default SA0_TPU_VERSION, else v2-alpha-tpuv6e for v6e, else tpu-ubuntu2204-base)
install  copies the wheel (make wheel) and constraints.txt to all of them and installs them
run      `sa0 train ARGUMENTS…` on all of them; JAX finds the others by itself. Ctrl-C here does not
         reach them. The working folder must be one that all see: a mounted one
delete   deletes them

example: launch/tpu_vm/train.sh --dry-run run paper us-east5-a --config=paper --workdir=shared/paper
END
}

fail() {
  echo "train.sh: $1" >&2
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
(($# >= 3)) || fail 'create, install, run or delete, then NAME ZONE (--help)'
action=$1 name=$2 zone=$3
shift 3

call() {
  if [[ -n $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}
tpus=(gcloud compute tpus tpu-vm)
on_all() { call "${tpus[@]}" ssh "$name" --zone="$zone" --worker=all --command="$1"; }

case $action in
  create)
    (($#)) || fail 'which TYPE? v6e-8, v5litepod-16, …'
    kind=$1
    shift
    version=tpu-ubuntu2204-base
    [[ $kind != v6e-* ]] || version=v2-alpha-tpuv6e
    # An option of the caller's comes later, and the last one counts.
    call "${tpus[@]}" create "$name" --zone="$zone" --accelerator-type="$kind" \
      --version="${SA0_TPU_VERSION:-$version}" "$@"
    ;;
  install)
    (($# == 1)) || fail 'which WHEEL? make wheel leaves it in dist/'
    call "${tpus[@]}" scp "$1" constraints.txt "$name:" --zone="$zone" --worker=all
    printf -v wheel '%q' "./${1##*/}[tpu]"
    on_all "python3.11 -m venv sa0 && sa0/bin/pip install -c constraints.txt $wheel"
    ;;
  run)
    printf -v command '%q ' env SA0_CLUSTER=tpu sa0/bin/sa0 train "$@"
    on_all "${command% }"
    ;;
  delete)
    (($# == 0)) || fail "nothing comes after ZONE, got $1"
    call "${tpus[@]}" delete "$name" --zone="$zone" --quiet
    ;;
  *) fail "create, install, run or delete, got $action" ;;
esac
