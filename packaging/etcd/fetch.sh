#!/bin/sh
# Puts real etcd and etcdctl into .cache/etcd/bin of this checkout, for the tests and the lab.
# TULLE_ETCD_DEST: another target folder.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dest=${TULLE_ETCD_DEST:-$root/.cache/etcd/bin}
"$root/packaging/setup/unpack.sh" "$dest" etcd-server etcd-client -- etcd etcdctl
printf 'etcd: %s\n' "$dest" >&2
