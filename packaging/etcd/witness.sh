#!/bin/sh
# Puts etcd3 0.12.0 into .cache/etcd3-witness of this checkout: an etcd client that is not ours, which the tests let
# read what ours wrote and the other way round.
#
# It lies in a folder of its own because its messages load only with a protobuf from before 3.21. The tests run it as
#   PYTHONPATH=.cache/etcd3-witness PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python python3 -S ...
# Quick when all is there. PYTHON: the interpreter that has pip (default: .venv's, else python3).
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dest=$root/.cache/etcd3-witness
if [ -x "$root/.venv/bin/python" ]; then python=${PYTHON:-$root/.venv/bin/python}; else python=${PYTHON:-python3}; fi

say() { printf '%s\n' "$*" >&2; }

works() { PYTHONPATH=$dest PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python "$python" -S -c 'import etcd3' 2>/dev/null; }

if ! works; then
    rm -rf "$dest"
    mkdir -p "$dest"
    "$python" -m pip install --quiet --no-warn-conflicts --disable-pip-version-check --target "$dest" \
        'etcd3==0.12.0' 'protobuf==3.20.3' 'grpcio>=1.66,<2' >"$dest/pip.log" 2>&1 || {
        sed 's/^/  /' "$dest/pip.log" >&2
        say "witness.sh: $python -m pip could not install etcd3 (above): check the network or pip, then try again"
        exit 1
    }
    works || { say "witness.sh: etcd3 is in $dest but $python cannot import it: remove $dest and try again"; exit 1; }
fi
say "etcd3: $dest"
