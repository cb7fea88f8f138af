#!/usr/bin/env bash
# Measures the project against its yardsticks; scripts/bench/run.sh -h says how.
set -euo pipefail

if ! command -v node >/dev/null; then
  echo "scripts/bench/run.sh: Node is needed (https://nodejs.org, version 20 or later), and the command \"node\" is not found." >&2
  exit 1
fi
exec node "$(dirname "${BASH_SOURCE[0]}")/main.mjs" "$@"
