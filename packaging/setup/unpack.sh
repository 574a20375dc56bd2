#!/bin/sh
# Puts programs out of Debian packages into a folder, without installing anything: what these packages install starts
# services. Programs that are in PATH are linked; else the packages are downloaded, which needs no root.
#   unpack.sh FOLDER PACKAGE… -- PROGRAM…
# Quick when all is there. Debian 12 and Ubuntu 24.04.
set -eu

dest=$1
shift
packages=
while [ "$1" != -- ]; do packages="$packages $1"; shift; done
shift
programs=$*

say() { printf '%s\n' "$*" >&2; }
die() { say "unpack.sh: $*"; exit 1; }

complete() {
    for program in $programs; do
        [ -x "$dest/$program" ] && "$dest/$program" --help >/dev/null 2>&1 || return 1
    done
}

link_installed() {
    for program in $programs; do command -v "$program" >/dev/null || return 1; done
    mkdir -p "$dest"
    for program in $programs; do ln -sf "$(command -v "$program")" "$dest/$program"; done
}

download() {
    # shellcheck disable=SC2086
    (cd "$work" && apt-get -qq -o APT::Sandbox::User= download $packages >apt.log 2>&1)
}

# A machine whose package lists were never fetched, or are too old for what lies on the mirror.
download_with_new_lists() {
    [ "$(id -u)" = 0 ] && apt-get -qq update >"$work/apt.log" 2>&1 && download
}

unpack() {
    for tool in apt-get dpkg-deb tar; do
        command -v "$tool" >/dev/null 2>&1 ||
            die "there is no $tool here: install$packages by your system's means, so that these are in PATH: $programs"
    done
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    chmod 755 "$work" # apt's own user writes here where root runs this
    download || download_with_new_lists || {
        sed 's/^/  /' "$work/apt.log" >&2
        die "apt could not download$packages (above): run 'apt-get update' as root, then try again"
    }
    mkdir -p "$dest"
    for program in $programs; do
        for package in "$work"/*.deb; do
            dpkg-deb --fsys-tarfile "$package" | tar -C "$work" -xf - "./usr/bin/$program" 2>/dev/null || continue
        done
        # A new name and a rename: a test that runs the old one at this moment goes on.
        cp "$work/usr/bin/$program" "$dest/.$program.$$"
        mv -f "$dest/.$program.$$" "$dest/$program"
    done
}

complete || link_installed || unpack
complete || die "$dest: $programs do not run on this machine: remove that folder and put them into PATH"
