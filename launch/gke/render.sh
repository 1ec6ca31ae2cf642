#!/usr/bin/env bash
# Fills in a template of this folder and hands it to kubectl.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/gke/render.sh [--dry-run] TEMPLATE NAME=… IMAGE=… CLAIM=… [KEY=VALUE…] [-- ARGUMENTS…]

Replaces @KEY@ in TEMPLATE (launch/gke/jobset.yaml, refine_indexed_job.yaml; their first lines list
the keys that have defaults) and runs `kubectl apply -f -`. NAME is the job's, IMAGE the container's,
CLAIM a volume claim that every pod can write to; it is the working folder of the pods. ARGUMENTS go
to the command unchanged.

  --dry-run  print the YAML instead
example: launch/gke/render.sh --dry-run launch/gke/jobset.yaml NAME=paper IMAGE=example/sa0:1 \
           CLAIM=shared PROCESSES=4 -- --config=paper --workdir=runs/paper
END
}

fail() {
  echo "render.sh: $1" >&2
  exit 2
}

# A JSON string, which is YAML, too. Kubernetes reads $(NAME) in arguments: $$ is a dollar.
quoted() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  text=${text//$'\r'/\\r}
  [[ $text != *[[:cntrl:]]* ]] || fail 'an argument holds a control character'
  text=${text//\$/\$\$}
  printf '"%s"' "$text"
}

dry_run=''
while (($#)); do
  case $1 in
    --help) usage; exit 0 ;;
    --dry-run) dry_run=1; shift ;;
    *) break ;;
  esac
done
(($#)) || fail 'which template? (--help)'
template=$1
shift
[[ -f $template ]] || fail "$template: no such file"

declare -A values=()
while IFS= read -r line; do
  if [[ $line =~ ^#:([A-Z_]+)=(.*)$ ]]; then
    values[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
  fi
done <"$template"
text=$(grep -v '^#' "$template")
while (($#)); do
  [[ $1 != -- ]] || { shift; break; }
  [[ $1 =~ ^([A-Z_]+)=(.*)$ ]] || fail "KEY=VALUE, or -- before the arguments; got $1"
  key=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
  [[ $text == *"@$key@"* ]] || fail "$template has no @$key@"
  [[ $key != ARGUMENTS ]] || fail 'arguments come after --'
  # Nothing that would mean something to YAML.
  [[ $value =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] || fail "$key=$value: letters, digits and . _ : / @ -"
  [[ $key != NAME || $value =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    fail "NAME=$value: at most 40 small letters, digits and -, a letter first"
  values[$key]=$value
  shift
done

arguments=''
for word in "$@"; do
  arguments+="${arguments:+, }$(quoted "$word")"
done
# The arguments last: what they hold is no key.
for key in "${!values[@]}"; do
  text=${text//"@$key@"/"${values[$key]}"}
done
without=${text//@ARGUMENTS@/}
if [[ $without =~ @([A-Z_]+)@ ]]; then
  fail "${BASH_REMATCH[1]}=… is missing"
fi
text=${text//"@ARGUMENTS@"/"[$arguments]"}

if [[ -n $dry_run ]]; then
  printf '%s\n' "$text"
else
  printf '%s\n' "$text" | kubectl apply -f -
fi
