#!/bin/sh
# Puts real etcd and etcdctl into .cache/etcd/bin of this checkout, for the tests and the lab.
#
# Debian's etcd-server starts a service when it is installed, so nothing is installed: what is in PATH is linked,
# else the packages are downloaded and unpacked, which needs no root. Quick when all is there. Debian 12 and Ubuntu
# 24.04. TULLE_ETCD_DEST: another target folder.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dest=${TULLE_ETCD_DEST:-$root/.cache/etcd/bin}

say() { printf '%s\n' "$*" >&2; }
die() { say "fetch.sh: $*"; exit 1; }

complete() { [ -x "$dest/etcd" ] && [ -x "$dest/etcdctl" ] && "$dest/etcd" --version >/dev/null 2>&1; }

link_installed() {
    server=$(command -v etcd) && client=$(command -v etcdctl) || return 1
    mkdir -p "$dest"
    ln -sf "$server" "$dest/etcd"
    ln -sf "$client" "$dest/etcdctl"
}

unpack_packages() {
    for tool in apt-get dpkg-deb; do
        command -v "$tool" >/dev/null 2>&1 ||
            die "there is no $tool here: install etcd and etcdctl by your system's means so that both are in PATH"
    done
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    chmod 755 "$work" # apt's own user writes here where root runs this
    (cd "$work" && apt-get -qq -o APT::Sandbox::User= download etcd-server etcd-client >apt.log 2>&1) || {
        sed 's/^/  /' "$work/apt.log" >&2
        die "apt could not download etcd-server and etcd-client (above): run 'apt-get update' as root, then try again"
    }
    for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/unpacked"; done
    mkdir -p "$dest"
    for binary in etcd etcdctl; do
        # A new name and a rename: a test that runs the old one at this moment goes on.
        cp "$work/unpacked/usr/bin/$binary" "$dest/.$binary.$$"
        mv -f "$dest/.$binary.$$" "$dest/$binary"
    done
}

complete || link_installed || unpack_packages
complete || die "$dest/etcd does not run on this machine: remove $dest and put etcd and etcdctl into PATH"
say "etcd: $dest"
