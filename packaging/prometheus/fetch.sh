#!/bin/sh
# Puts promtool into .cache/prometheus/bin of this checkout, for the tests of the metrics.
# TULLE_PROMETHEUS_DEST: another target folder.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dest=${TULLE_PROMETHEUS_DEST:-$root/.cache/prometheus/bin}
"$root/packaging/setup/unpack.sh" "$dest" prometheus -- promtool
printf 'promtool: %s\n' "$dest" >&2
