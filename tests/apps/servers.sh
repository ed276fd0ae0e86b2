#!/usr/bin/env bash
# A browser and a database server for the tests of the applications: Debian's Chromium and PostgreSQL.
#
#   tests/apps/servers.sh install   # installs what isn't there (Debian or Ubuntu, as root), or says why it can't
set -euo pipefail

is_installed() {
    command -v chromium >/dev/null && [ -n "$(compgen -G '/usr/lib/postgresql/*/bin/initdb')" ]
}

install_servers() {
    is_installed && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Chromium and PostgreSQL can't be installed here: that takes apt-get and root. Their tests are skipped."
        return
    fi
    apt-get update --quiet || true
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends chromium postgresql ||
        echo "apt-get can't install Chromium and PostgreSQL here. Their tests are skipped."
}

case ${1:-} in
install) install_servers ;;
*)
    sed -n '2,5p' "$0" | cut -c 3-
    exit 2
    ;;
esac
