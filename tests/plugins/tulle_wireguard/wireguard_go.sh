#!/bin/sh
# Builds wireguard-go into .cache/wireguard-go of this checkout: another people's WireGuard, which the tests let talk
# to ours. It comes from the Go module proxy. Quick when it is there. Exit status 3: there is no Go here.
set -eu

version=v0.0.0-20250521234502-f333402bd9cb
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../../.." && pwd)
dest=$root/.cache/wireguard-go/$version
PATH=$PATH:/usr/local/go/bin

say() { printf '%s\n' "$*" >&2; }

if [ ! -x "$dest/wireguard" ]; then
    command -v go >/dev/null 2>&1 || { say "there is no go in PATH: install Go 1.23 or later"; exit 3; }
    mkdir -p "$dest"
    build=$(mktemp -d "$dest/build.XXXXXX")
    trap 'rm -rf "$build"' EXIT
    trap 'exit 1' HUP INT TERM
    GOBIN=$build GOFLAGS=-buildvcs=false go install "golang.zx2c4.com/wireguard@$version" >"$dest/build.log" 2>&1 || {
        sed 's/^/  /' "$dest/build.log" >&2
        say "wireguard_go.sh: go could not build it (above): check the network, then try again"
        exit 1
    }
    mv -f "$build/wireguard" "$dest/wireguard" # a rename: two that build at once do not meet half a file
fi
printf '%s\n' "$dest/wireguard"
