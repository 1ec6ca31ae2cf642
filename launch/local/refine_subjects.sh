#!/usr/bin/env bash
# One worker's share of many subjects: each capture becomes an avatar.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/local/refine_subjects.sh [--dry-run] INDEX COUNT CAPTURES AVATARS [ARGUMENTS…]

CAPTURES is a folder of captures or a file with one capture folder a line. Worker INDEX of COUNT
(from 0) takes every COUNT-th of them and runs `sa0 refine CAPTURE --out AVATARS/NAME.sa0
ARGUMENTS…`. Subjects whose avatar and report are there are left alone; one that was interrupted
goes on from its checkpoint.

SA0_COMMAND replaces `sa0 refine`: words without quotes or spaces inside.
exit code: 0 all are done; 1 some failed; 75 stopped by SIGTERM, start me again; 2 wrong usage.
example: launch/local/refine_subjects.sh 0 1 captures avatars --config.held_out=0.2
END
}

fail() {
  echo "refine_subjects.sh: $1" >&2
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
(($# >= 4)) || fail 'INDEX COUNT CAPTURES AVATARS [ARGUMENTS…] (--help)'
index=$1 count=$2 captures=$3 avatars=$4
shift 4
[[ $index =~ ^[0-9]{1,6}$ && $count =~ ^[0-9]{1,6}$ ]] || fail "no numbers: INDEX $index, COUNT $count"
((index < count)) || fail "INDEX is 0 to COUNT - 1, got $index of $count"
read -ra command <<<"${SA0_COMMAND:-sa0 refine}"

subjects=()
if [[ -f $captures ]]; then
  while IFS= read -r line || [[ -n $line ]]; do
    [[ -z $line ]] || subjects+=("${line%/}")
  done <"$captures"
elif [[ -d $captures ]]; then
  for file in "$captures"/*/capture.json; do # in the order of names
    [[ ! -e $file ]] || subjects+=("${file%/capture.json}")
  done
else
  fail "$captures: neither a folder of captures nor a list of them"
fi
((${#subjects[@]})) || fail "$captures: no captures in it"
# Two captures of one name would take turns at one avatar.
twice=$(printf '%s\n' "${subjects[@]##*/}" | sort | uniq -d)
[[ -z $twice ]] || fail "$captures: more than one capture is called ${twice//$'\n'/, }"

child='' stopped=''
stop() {
  stopped=1
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM

failed=0
for ((i = index; i < ${#subjects[@]}; i += count)); do
  name=${subjects[i]##*/}
  line=("${command[@]}" "${subjects[i]}" --out "$avatars/$name.sa0" "$@")
  if [[ -e $avatars/$name.sa0 && -e $avatars/$name.report.json ]]; then
    echo "$name: done before"
    continue
  fi
  if [[ -n $dry_run ]]; then
    printf '%q ' "${line[@]}"
    echo
    continue
  fi
  mkdir -p "$avatars"
  echo "$name: begins"
  "${line[@]}" &
  child=$!
  code=0
  wait "$child" || code=$?
  # A trapped signal ends `wait`, not the child.
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  child=''
  if [[ -n $stopped || $code == 75 || $code == 143 ]]; then
    echo "$name: stopped (exit code $code); the same command again goes on" >&2
    exit 75
  fi
  if ((code)); then
    echo "$name: failed (exit code $code)" >&2
    failed=$((failed + 1))
  fi
done
if ((failed)); then
  echo "refine_subjects.sh: $failed failed" >&2
  exit 1
fi
