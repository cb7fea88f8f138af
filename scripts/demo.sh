#!/usr/bin/env bash
# Shows the whole network on one machine; see usage below.
# shellcheck disable=SC2317 # clean_up and serves are called by name: by trap, by until_true
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/demo.sh [-h | --check]

Builds the project, starts three mediators that find each other by DHT, shares a
picture with the headless peer on the first, and prints the link with which a
browser fetches it through the third. Ctrl-C (or SIGTERM) ends everything and leaves nothing.

  --check   instead of waiting for a browser, fetches the picture with "peer get"
            through the second mediator, compares, and ends
TEXT
}

check=false
case "${1-}" in
  '') ;;
  --check) check=true ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
patience=60 # seconds; the slowest step is a first search in the DHT on a busy machine
folder=$(mktemp -d)
children=()

# Ends our own children, by their ids, and waits for them; the last one first, so
# that the peer says goodbye while its mediator is there.
clean_up() {
  local status=$? i
  trap '' INT TERM
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do
    kill -TERM "${children[i]}" 2>/dev/null || true
    wait "${children[i]}" 2>/dev/null || true
  done
  rm -rf "$folder"
  exit "$status"
}
trap clean_up EXIT
trap 'echo; echo "Ending."; exit 0' INT TERM

fail() {
  printf '\nThe demonstration failed: %s\n' "$1" >&2
  if [[ -n ${2-} ]]; then
    printf 'What it said:\n' >&2
    tail -n 40 "$2" >&2
  fi
  exit 1
}

# start <name> <command ...>: in the background, its output in a file. Ctrl-C
# reaches us alone (set -m gives the child a process group of its own), so that
# it is clean_up that ends it.
start() {
  local name=$1
  shift
  : >"$folder/$name.log" # there at once, for whoever looks into it
  set -m
  "$@" >"$folder/$name.log" 2>&1 </dev/null &
  set +m
  children+=($!)
}

# until_true <name> <what> <command ...>: repeats the command until it succeeds,
# as long as the child that was started last lives.
until_true() {
  local name=$1 what=$2 deadline=$((SECONDS + patience))
  shift 2
  until "$@"; do
    kill -0 "${children[-1]}" 2>/dev/null || fail "$name ended." "$folder/$name.log"
    ((SECONDS < deadline)) || fail "waited $patience seconds for $what." "$folder/$name.log"
    sleep 0.1
  done
}

# A port on which nobody answers.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); do
    if ! (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# GET /healthz with bash alone: curl may not be there.
serves() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
  read -r answer <&3 || answer=
  exec 3>&-
  [[ $answer == *' 200 '* ]]
} 2>/dev/null

# start_mediator <number> [bootstrap]: sets port.
start_mediator() {
  port=$(free_port)
  start "mediator-$1" bin/mediator "$port" 0 "${@:2}" --data-dir "$folder/data-$1"
  until_true "mediator-$1" "mediator $1" serves "$port"
  echo "  mediator $1   http://localhost:$port"
}

./compile.sh
echo
echo "Starting three mediators that join one DHT:"
start_mediator 1
first=$port
start_mediator 2 "localhost:$first"
second=$port
start_mediator 3 "localhost:$first"
third=$port

echo
echo "Sharing a picture with the headless peer on mediator 1:"
go run ./scripts/sample >"$folder/sample.png"
start seed bin/peer seed "$folder/sample.png" --mediator "ws://localhost:$first/mediation"
until_true seed "the announce" grep -q announced "$folder/seed.log"
# Without the mediator that the link names: the others find the picture by DHT alone.
link=$(grep -o 'p2pcdn:[^[:space:]]*' "$folder/seed.log" | head -n 1)
link=${link%%&m=*}
echo "  $link"
echo

if $check; then
  echo "Fetching it with \"peer get\" through mediator 2:"
  bin/peer get "$link" -o "$folder/fetched.png" --mediator "ws://localhost:$second/mediation" >"$folder/get.log" 2>&1 ||
    fail "peer get." "$folder/get.log"
  cmp "$folder/sample.png" "$folder/fetched.png" || fail "what came is not what was shared."
  echo "  $(wc -c <"$folder/fetched.png") bytes came, the same that were shared."
  exit 0
fi

echo "Open this in a browser; the picture comes through mediator 3:"
echo
echo "  http://localhost:$third/preview/leecher_preview.html#${link#p2pcdn:}"
echo
echo "Ctrl-C ends it."
wait -n 2>/dev/null || true
for log in "$folder"/*.log; do
  printf '\nThe last words of %s:\n' "$(basename "$log" .log)" >&2
  tail -n 5 "$log" >&2
done
fail "one of these programs ended on its own."
