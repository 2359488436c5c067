# shellcheck shell=bash
# Sourced by the scripts in tools/: makes sure that Debian packages are installed.
#
#   . "$here/lib/packages.sh"
#   need_packages cmake gcc || exit 1
#
# need_packages PKG...
#   Installs those packages that are missing, says which, asks nothing. Touches neither apt nor sudo when all are there.
#   Returns 1 after one sentence on stderr when that is not possible.

need_packages() {
    local package missing=() as_root=() log

    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "${0##*/}: this is not a Debian-like system: please install by hand what these packages hold: $*" >&2
        return 1
    fi
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true >/dev/null 2>&1; then
            echo "${0##*/}: missing Debian packages, please install them: sudo apt-get install ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo -n)
    fi

    echo "installing Debian packages: ${missing[*]}" >&2
    # The package lists of a fresh machine or container may be absent or stale: fetch them only when they prove to be.
    # apt's output is kept in memory, so that its error can be shown even when the disk is full.
    if ! log=$(_packages_install 2>&1); then
        log+=$'\n'$(_packages_apt update 2>&1) || true # what counts is whether the package can be had afterwards
        if ! log+=$'\n'$(_packages_install 2>&1); then
            echo "${0##*/}: cannot install ${missing[*]}: $(_packages_reason "$log")" >&2
            return 1
        fi
    fi
    _packages_no_services
}

# want_packages PKG...
#   The same for packages that it goes without: installs what the system offers and can install, and says what is missing then.
want_packages() {
    local package offered=() absent=()
    for package in "$@"; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ]; then
            continue
        elif apt-cache show "$package" >/dev/null 2>&1; then
            offered+=("$package")
        else
            absent+=("$package")
        fi
    done
    if [ "${#offered[@]}" -gt 0 ] && ! need_packages "${offered[@]}" 2>/dev/null; then
        for package in "${offered[@]}"; do # one may stand in the way of all
            need_packages "$package" || absent+=("$package")
        done
    fi
    [ "${#absent[@]}" -eq 0 ] || echo "going on without these Debian packages: ${absent[*]}" >&2
}

# The helpers below see the variables of need_packages: bash scopes are dynamic.

_packages_apt() {
    # Waits for another apt (a fresh machine's unattended upgrade) instead of failing at once.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# Debian starts a server as soon as its package is installed. While a policy-rc.d says 101, nothing is started; one that
# is there already is the administrator's and stays as it is.
_packages_install() {
    (
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap '"${as_root[@]}" rm -f "$policy"' EXIT
            trap 'exit 130' INT TERM HUP
            printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null &&
                "${as_root[@]}" chmod 755 "$policy"
        fi
        _packages_apt install --no-install-recommends "${missing[@]}"
    )
}

# Nor shall the services of the packages named (not of their dependencies) come up at the next boot.
_packages_no_services() {
    command -v systemctl >/dev/null || return 0
    local unit units
    units=$(dpkg-query -L "${missing[@]}" 2>/dev/null | grep -E '/systemd/system/[^/@]+\.service$') || return 0
    for unit in $units; do
        "${as_root[@]}" systemctl disable --now "${unit##*/}" >/dev/null 2>&1 || true
    done
}

# The line of apt's output that says what went wrong.
_packages_reason() {
    local reason=
    # printf, not a here-string: that may need a temporary file.
    reason=$(printf '%s\n' "$1" | grep -i 'no space left\|enough free space' | head -n 1) || true
    [ -n "$reason" ] || reason=$(printf '%s\n' "$1" | grep '^E: ' | tail -n 1) || true
    echo "${reason:-apt-get failed without a message}"
}
