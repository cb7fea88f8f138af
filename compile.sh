#!/usr/bin/env bash
# Builds everything from source, with Go alone; see usage below.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: ./compile.sh [-h]

Builds, from any directory:
  bin/mediator           the mediator, with the preview pages inside
  bin/peer               the headless peer: peer info, peer seed, peer get, peer latency
  preview/dist/cdn.mjs   the browser peer as an ES module
  preview/dist/cdn.js    the same as a classic script with the global "cdn"
  preview/dist/sw.js     the service worker that streams content to media elements
  preview/dist/*.js      the scripts of the preview pages

Needs Go, nothing else: the bundler is a Go tool that go.mod names.
TEXT
}

case "${1-}" in
  '') ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v go >/dev/null; then
  echo "compile.sh: Go is needed (https://go.dev/dl), and the command \"go\" is not found." >&2
  exit 1
fi

# The options of every bundle.
esbuild_options=(--bundle --minify --target=es2022 --log-level=warning)

# bundle <output> <source> [esbuild options]
bundle() {
  local output=$1 source=$2
  shift 2
  go tool esbuild "$source" "${esbuild_options[@]}" --sourcemap "${workers[@]}" "--outfile=$output" "$@"
  built "$output"
}

# worker <source>: a worker's program as a JSON string, for the bundles that start
# it: a site serves one file. Without templates a minified program is one line.
worker() {
  local program
  program=$(go tool esbuild "$1" "${esbuild_options[@]}" --format=iife --supported:template-literal=false) || return
  sed 's/[\\"]/\\&/g; s/.*/"&"/' <<<"$program"
}

# binary <output> <package>
binary() {
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$1" "$2"
  built "$1"
}

built() {
  printf '  %-28s %s\n' "$1" "$(size "$1")"
}

size() {
  local bytes
  bytes=$(wc -c <"$1")
  if ((bytes >= 1048576)); then
    printf '%d.%d MiB' $((bytes / 1048576)) $((bytes % 1048576 * 10 / 1048576))
  else
    printf '%d KiB' $(((bytes + 1023) / 1024))
  fi
}

version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
echo "Building p2pcdn $version:"

# The bundles first: the mediator embeds them.
find preview/dist -type f ! -name placeholder.txt -delete
store_worker=$(worker peer/browser/src/store/worker.ts)
hash_worker=$(worker peer/browser/src/content/worker.ts)
workers=("--define:P2PCDN_STORE_WORKER=$store_worker" "--define:P2PCDN_HASH_WORKER=$hash_worker")
bundle preview/dist/cdn.mjs peer/browser/src/index.ts --format=esm
bundle preview/dist/cdn.js peer/browser/src/index.ts --format=iife --global-name=cdn
bundle preview/dist/sw.js peer/browser/src/sw.ts --format=iife
for page in home index seeder leecher; do
  bundle "preview/dist/$page.js" "preview/src/$page.ts" --format=esm
done
binary bin/mediator ./mediator
binary bin/peer ./peer
