#!/usr/bin/env bash
# Runs all checks and tests of the project; see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [-h] [PART ...]

Runs the parts that are named, or all of them, in this order:
  go        gofmt, go vet, staticcheck, shellcheck (where it is installed), the
            build, and all Go tests with the race detector (architecture, vectors
            and fuzz seeds included); those of large networks without it
  ts        type check and unit tests of the browser peer, the preview pages, the benchmark and the lab
  demo      scripts/demo.sh --check
  browser   real Chromium and Firefox through real mediators; as root also in a
            network that drops UDP

Needs Go and Node. On Debian it installs what else it needs: the browsers, ip, nft
and miniupnpd with apt, and the development tools of peer/browser with npm. Each step's output is
kept quiet, and shown in full where the step fails; then the run stops.
What was skipped is named at the end, each with its reason. The last line is
"N passed, N failed": tests where a step has them, else steps.
TEXT
}

parts=()
for argument in "$@"; do
  case "$argument" in
    -h | --help) usage; exit 0 ;;
    go | ts | demo | browser) parts+=("$argument") ;;
    *) usage >&2; exit 2 ;;
  esac
done
if ((${#parts[@]} == 0)); then parts=(go ts demo browser); fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
skipped='' # a line for each that was

# step <name> <counter> <command ...>: runs the command, prints one line, and
# ends the run where it fails. The counter prints what the log says of tests, as
# "<passed> <failed>"; what it says of those that were skipped is kept for the end.
step() {
  local name=$1 counter=$2 started=$SECONDS ok=true counted
  shift 2
  printf '  %-44s ' "$name"
  "$@" >"$log" 2>&1 </dev/null || ok=false
  counted=$("$counter")
  passed=$((passed + ${counted% *}))
  case "$counter" in
    go_tests) skip "$(go_skips)" ;;
    node_tests) skip "$(node_skips)" ;;
  esac
  if $ok; then
    printf 'ok    %4d s  %s\n' $((SECONDS - started)) "$(tests "$counter" "$counted")"
    return
  fi
  printf 'FAILED %3d s\n\n' $((SECONDS - started))
  # What passed is no news, in a log of a thousand tests. Some tests print bytes that are no text (-a).
  grep -avE '^ *(=== (RUN|PAUSE|CONT|NAME)|--- PASS:)' "$log" || true
  local failed=${counted#* }
  printf '\n%s failed.\n' "$name"
  summary $((failed > 0 ? failed : 1))
  exit 1
}

tests() {
  if [[ $1 != as_one ]]; then echo "${2% *} tests"; fi
}

# The counters. A step that fails counts as failed in any case.
as_one() { if $ok; then echo "1 0"; else echo "0 1"; fi; }
go_tests() { echo "$(grep -cE '^--- PASS:' "$log") $(grep -cE '^--- FAIL:' "$log")"; }
node_tests() { echo "$(node_sum pass) $(node_sum fail)"; }
node_sum() { awk -v what="$1" '($1 == "#" || $1 == "ℹ") && $2 == what { sum += $3 } END { print sum + 0 }' "$log"; }

# The skipped, a line for each: "<name>: <reason>". Go says the reason before it, as a test's last words.
go_skips() {
  awk '
    /^=== (RUN|CONT|NAME) / { test = $3 }
    match($0, /^ +[^ ]+\.go:[0-9]+: /) { words[test] = substr($0, RLENGTH + 1) }
    /^ *--- SKIP: / { print $3 ": " ($3 in words ? words[$3] : "no reason is given") }
    /^(ok|FAIL)[ \t]/ { split("", words) } # the next package has tests of its own
  ' "$log"
}

# As TAP, where a "#" within a text has a backslash, and as Node tells people.
node_skips() {
  sed -nE -e 's/^ *ok [0-9]+ - (.*) # SKIP ?(.*)$/\1: \2/; t found' \
    -e 's/^ *﹣ (.*) \([0-9.]+m?s\) # (SKIP$)?(.*)$/\1: \3/; t found' -e d \
    -e ': found' -e 's/\\n/ /g; s/\\(.)/\1/g; s/: $/: no reason is given/; p' "$log"
}

# skip <lines>: keeps them for the summary.
skip() {
  if [[ -n $1 ]]; then skipped+=$1$'\n'; fi
}

# summary <failed>: the end of the run.
summary() {
  printf '%d skipped%s\n' "$(printf '%s' "$skipped" | wc -l)" "${skipped:+:}"
  printf '%s' "$skipped" | sed 's/^/  /'
  printf '%d passed, %d failed\n' "$passed" "$1"
}

need() {
  command -v "$1" >/dev/null && return
  echo "scripts/test.sh: \"$1\" is needed, and not found: $2" >&2
  exit 1
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# install <package ...>: with apt.
install() {
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}

# has_all <command ...>: root's commands are looked for wherever root has them.
has_all() {
  local name
  for name in "$@"; do PATH=$PATH:/usr/sbin:/sbin command -v "$name" >/dev/null || return 1; done
}

node_tools() {
  need node "https://nodejs.org, version 20 or later"
  need npm "it comes with Node"
  # npm writes the second file at the end of an installation.
  if ! [[ peer/browser/node_modules/.package-lock.json -nt peer/browser/package-lock.json ]]; then
    step "install development tools (npm)" as_one npm ci --ignore-scripts --no-audit --no-fund --prefix peer/browser
  fi
}

formatted() {
  local files
  files=$(git ls-files --cached --others --exclude-standard '*.go' | xargs -r gofmt -l)
  if [[ -n $files ]]; then
    printf 'Not formatted (gofmt -w):\n%s\n' "$files"
    return 1
  fi
}

part_go() {
  step "gofmt" as_one formatted
  step "go vet" as_one go vet ./...
  step "staticcheck" as_one go tool staticcheck ./...
  if command -v shellcheck >/dev/null; then
    step "shellcheck" as_one shellcheck compile.sh scripts/*.sh scripts/bench/*.sh .ci/run
  else
    skip "shellcheck: it is not installed"
  fi
  compiled
  if ! has_all ip nft miniupnpd; then step "install ip, nft, miniupnpd (apt)" as_one install iproute2 nftables miniupnpd-nftables; fi
  # Many of them wait more than they compute, so more packages at a time than there are processors.
  step "go test -race" go_tests go test -race -v -p 4 ./...
  step "go test, large networks" go_tests go test -v -run 'TestLargerNetwork|TestSmall' ./mediator/internal/flights ./mediator/internal/simulation
}

part_ts() {
  node_tools
  step "type check: browser peer" as_one peer/browser/node_modules/.bin/tsc --noEmit -p peer/browser
  step "type check: preview pages" as_one peer/browser/node_modules/.bin/tsc --noEmit -p preview
  step "unit tests: browser peer" node_tests npm test --silent --prefix peer/browser
  step "unit tests: preview pages" node_tests node preview/test/run.mjs
  step "unit tests: benchmark, lab" node_tests node --test --test-reporter=tap scripts/bench/report.test.mjs scripts/lab/browser/pages.test.mjs
}

part_demo() {
  compiled
  step "demo.sh --check" as_one scripts/demo.sh --check
}

part_browser() {
  if ! has_all chromium firefox-esr ip nft; then
    step "install browsers, ip and nft (apt)" as_one install chromium firefox-esr iproute2 nftables
  fi
  node_tools
  compiled
  step "browser tests" node_tests node --test --test-concurrency=2 --test-reporter=tap peer/browser/e2e/*.test.mjs
}

# Builds once, whichever part comes first.
is_compiled=false
compiled() {
  if $is_compiled; then return; fi
  step "compile.sh" as_one ./compile.sh
  is_compiled=true
}

need go "https://go.dev/dl"
echo "Testing: ${parts[*]}"
for part in "${parts[@]}"; do "part_$part"; done
printf '\nAll passed in %d min %02d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
summary 0
