#!/bin/sh
# Makes .venv/ in the root of the checkout and installs what is missing. Run by `make`; safe to run again.
#   setup.sh run    what tulle needs to run
#   setup.sh dev    also what its tests, linters and benchmarks need
# Installs system packages with apt where some are missing and it may; starts no service.
set -eu

cd "$(dirname "$0")/../.."
level=${1:-run}
stamp=.venv/.tulle-$level

say() { printf 'setup: %s\n' "$*"; }

# missing COMMAND PACKAGE: the package's name, where the command is not there
missing() { command -v "$1" >/dev/null 2>&1 || printf ' %s' "$2"; }

system_packages() {
    python=$(find_python) || python=
    if [ -z "$python" ]; then
        printf ' python3 python3-venv'
    elif ! "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        printf ' python3-venv'
    fi
    missing nsenter util-linux
    missing ping iputils-ping
    # No command: a library, which pyseccomp finds by ldconfig.
    /sbin/ldconfig -p | grep -q 'libseccomp\.so\.2' || printf ' libseccomp2'
    # The same: the firewall rules of tulle_masquerade.
    /sbin/ldconfig -p | grep -q 'libnftables\.so\.1' || printf ' libnftables1'
    # python-pytun has wheels for x86_64 only; elsewhere it is built.
    if [ "$(uname -m)" != x86_64 ]; then
        missing cc gcc
        [ -n "$python" ] && [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
            printf ' python3-dev'
    fi
    if [ "$level" = dev ]; then
        missing openssl openssl
        missing iperf3 iperf3
        missing nft nftables
        missing iptables-nft iptables
        missing ip iproute2
        missing dpkg-deb dpkg
        # The stock WireGuard: its tools, and another implementation to talk to. None of these starts a service.
        missing wg wireguard-tools
        missing wireguard-go wireguard-go
        missing sysctl procps
        # Completion scripts are tried in the shells that they are for.
        missing zsh zsh
        missing fish fish
    fi
}

# The system's own python3 where it is new enough, else the first in PATH that is.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

install_packages() {
    wanted=$(system_packages)
    [ -z "$wanted" ] && return 0
    command="apt-get install -y --no-install-recommends$wanted"
    if ! command -v apt-get >/dev/null 2>&1; then
        say "please install these (Debian's names) and run make again:$wanted" >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then
            as_root=sudo
        else
            say "these packages are missing and only root may install them; run: sudo $command" >&2
            exit 1
        fi
    fi
    say "installing$wanted"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive $command -qq >/dev/null
}

install_packages
if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt constraints.txt ] &&
    .venv/bin/python -c 'import tulle' >/dev/null 2>&1; then
    exit 0
fi
python=$(find_python) || {
    say "no Python 3.11 or newer was found; install one and run make again" >&2
    exit 1
}
if ! .venv/bin/python -c '' >/dev/null 2>&1; then
    say "making .venv with $python ($("$python" -V))"
    rm -rf .venv
    "$python" -m venv .venv
fi
what=.
[ "$level" = dev ] && what='.[dev]'
say "installing tulle and its Python packages into .venv"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$what"
touch "$stamp"
