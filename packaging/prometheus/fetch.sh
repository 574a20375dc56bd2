#!/bin/sh
# Puts promtool into .cache/prometheus/bin of this checkout, for the tests of the metrics.
#
# It comes with Debian's prometheus, which starts a service when it is installed, so nothing is installed: what is in PATH
# is linked, else the package is downloaded and promtool taken out of it, which needs no root. Quick when it is there.
# TULLE_PROMETHEUS_DEST: another target folder.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dest=${TULLE_PROMETHEUS_DEST:-$root/.cache/prometheus/bin}

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch.sh: $*"; exit 1; }

complete() { [ -x "$dest/promtool" ] && "$dest/promtool" --version >/dev/null 2>&1; }

link_installed() {
    installed=$(command -v promtool) || return 1
    mkdir -p "$dest"
    ln -sf "$installed" "$dest/promtool"
}

unpack_package() {
    for tool in apt-get dpkg-deb tar; do
        command -v "$tool" >/dev/null 2>&1 ||
            die "there is no $tool here: install promtool by your system's means so that it is in PATH"
    done
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    chmod 755 "$work" # apt's own user writes here where root runs this
    (cd "$work" && apt-get -qq -o APT::Sandbox::User= download prometheus >apt.log 2>&1) || {
        sed 's/^/  /' "$work/apt.log" >&2
        die "apt could not download prometheus (above): run 'apt-get update' as root, then try again"
    }
    # Out of the archive, past everything else that is in it.
    dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -C "$work" -xf - ./usr/bin/promtool
    mkdir -p "$dest"
    cp "$work/usr/bin/promtool" "$dest/.promtool.$$"
    mv -f "$dest/.promtool.$$" "$dest/promtool"
}

complete || link_installed || unpack_package
complete || die "$dest/promtool does not run on this machine: remove $dest and put promtool into PATH"
say "promtool: $dest"
