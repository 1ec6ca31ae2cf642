#!/usr/bin/env bash
# Several training processes on this machine.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/local/multiprocess.sh N [options] -- ARGUMENTS…

Starts N processes of `sa0 train ARGUMENTS…` that find each other at a free port of this machine.
Every line they print begins with the process's number. SIGTERM, SIGINT and SIGHUP go to all of
them. Once one of them has ended otherwise than with 0, the others have --grace seconds to follow.

options:
  --devices-per-process M  each takes M GPUs of its own (CUDA_VISIBLE_DEVICES)
  --fake-devices M         each has M CPU devices that XLA makes up: to try a mesh without GPUs
  --port P                 the coordinator's (default: a free one)
  --grace SECONDS          default 120
  --dry-run                say what would run
  --help

SA0_COMMAND replaces `sa0 train`: words without quotes or spaces inside.
exit code: of the first process that failed; 75 if the others were stopped and have saved; else 0.
example: launch/local/multiprocess.sh 2 --fake-devices 4 -- --config=debug --workdir=runs/debug
END
}

fail() {
  echo "multiprocess.sh: $1" >&2
  exit 2
}

is_number() { [[ $1 =~ ^[0-9]{1,6}$ ]]; }

processes='' devices='' fake='' port='' grace=120 dry_run=''
while (($#)); do
  case $1 in
    --help) usage; exit 0 ;;
    --dry-run) dry_run=1 ;;
    --devices-per-process | --fake-devices | --port | --grace)
      { (($# > 1)) && is_number "$2"; } || fail "$1 takes a number"
      case $1 in
        --devices-per-process) devices=$2 ;;
        --fake-devices) fake=$2 ;;
        --port) port=$2 ;;
        --grace) grace=$2 ;;
      esac
      shift
      ;;
    --) shift; break ;;
    *)
      { is_number "$1" && (($1 > 0)) && [[ -z $processes ]]; } ||
        fail "N, options, -- and the arguments of sa0 train; got $1 (--help)"
      processes=$1
      ;;
  esac
  shift
done
[[ -n $processes ]] || fail 'how many processes? (--help)'
[[ -z $devices || -z $fake ]] || fail 'either --devices-per-process or --fake-devices'
read -ra command <<<"${SA0_COMMAND:-sa0 train}"

# A port that nobody answers at, below those that the system hands out by itself.
free_port() {
  local candidate
  while true; do
    candidate=$((20000 + RANDOM % 10000))
    (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || break
  done
  echo "$candidate"
}
[[ -n $port ]] || port=$(free_port)

# The variables of process $1, one a line.
variables() {
  echo "SA0_COORDINATOR=127.0.0.1:$port"
  echo "SA0_PROCESSES=$processes"
  echo "SA0_PROCESS=$1"
  if [[ -n $fake ]]; then
    echo 'JAX_PLATFORMS=cpu'
    echo "XLA_FLAGS=${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$fake"
  elif [[ -n $devices ]]; then
    echo "CUDA_VISIBLE_DEVICES=$(seq -s, $(($1 * devices)) $((($1 + 1) * devices - 1)))"
  fi
}

if [[ -n $dry_run ]]; then
  for ((i = 0; i < processes; i++)); do
    mapfile -t settings < <(variables "$i")
    printf '%q ' env "${settings[@]}" "${command[@]}" "$@"
    echo
  done
  exit 0
fi

pipes=$(mktemp -d)
pids=() printers=() codes=()
# What is left when this script ends, for whatever reason, is not left alone.
# shellcheck disable=SC2317 # called by traps
cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
  rm -rf "$pipes"
}
trap cleanup EXIT
# shellcheck disable=SC2317
send() {
  local i
  for i in "${!pids[@]}"; do
    [[ -n ${codes[i]:-} ]] || kill "-$1" "${pids[i]}" 2>/dev/null || true
  done
}
trap 'send TERM' TERM HUP
trap 'send INT' INT

# One write a line, so that lines of two processes do not mix. Signals are for the processes: their
# last words are still to be read.
print_lines() {
  local line
  trap '' INT TERM HUP
  while IFS= read -r line || [[ -n $line ]]; do
    printf '[%s] %s\n' "$1" "$line"
  done
}

# Job control: each process leads a group, in which Ctrl-C counts (in the background of a script it
# would be ignored), and which can be ended with all that it has started.
set -m
for ((i = 0; i < processes; i++)); do
  mkfifo "$pipes/$i"
  print_lines "$i" <"$pipes/$i" &
  printers+=($!)
  mapfile -t settings < <(variables "$i")
  env "${settings[@]}" "${command[@]}" "$@" </dev/null >"$pipes/$i" 2>&1 &
  pids+=($!)
done
set +m

first='' saved='' deadline='' ended=0
while ((ended < processes)); do
  for i in "${!pids[@]}"; do
    [[ -z ${codes[i]:-} ]] || continue
    ! kill -0 "${pids[i]}" 2>/dev/null || continue
    code=0
    wait "${pids[i]}" 2>/dev/null || code=$?
    codes[i]=$code
    ended=$((ended + 1))
    ((code == 0)) && continue
    echo "multiprocess.sh: process $i ended with $code" >&2
    if ((code == 75)); then saved=75; else first=${first:-$code}; fi
    deadline=${deadline:-$((SECONDS + grace))}
  done
  if [[ -n $deadline ]] && ((SECONDS >= deadline && ended < processes)); then
    echo "multiprocess.sh: $((processes - ended)) still there after $grace s: killed" >&2
    for i in "${!pids[@]}"; do
      [[ -n ${codes[i]:-} ]] || kill -KILL -- "-${pids[i]}" 2>/dev/null || true
    done
    deadline=$((SECONDS + grace))
  fi
  # A child, so that a signal is forwarded at once and not after it.
  ((ended == processes)) || { sleep 0.2 & wait $! || true; }
done
wait "${printers[@]}" || true
exit "${first:-${saved:-0}}"
