#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks:
#
#   scripts/install-missing.sh [postgres] [cc] [node]
#
# postgres: the server programs of PostgreSQL 14 or newer; tests and the demo start
# private servers from them. cc: a C compiler, for the race detector. node: Node.js
# and npm, for the verifiers of other languages. Says nothing when all is there.
# Installs with apt-get as root or through passwordless sudo; otherwise prints the
# command to run, and fails.
set -euo pipefail

min_version=14

# has_postgres looks where internal/pgproc looks.
has_postgres() {
	local dir
	if [[ -n ${RELAY_PG_BIN:-} ]]; then
		usable_postgres "$RELAY_PG_BIN" && return
		echo "RELAY_PG_BIN=$RELAY_PG_BIN holds no PostgreSQL $min_version or newer; unset it or correct it" >&2
		exit 1
	fi
	while IFS= read -r dir; do
		if usable_postgres "$dir"; then return; fi
	done < <(
		set +e # a place that is not there is no failure
		command -v postgres | xargs -r readlink -f | xargs -r dirname
		pg_config --bindir 2>/dev/null
		compgen -G '/usr/lib/postgresql/*/bin'
		compgen -G '/usr/pgsql-*/bin'
		compgen -G '/opt/homebrew/opt/postgresql@*/bin'
	)
	return 1
}

usable_postgres() {
	local version
	[[ -x $1/initdb && -x $1/postgres ]] || return 1
	version=$("$1/postgres" --version) || return 1
	[[ $version =~ \ ([0-9]+) ]] && ((BASH_REMATCH[1] >= min_version))
}

has_cc() {
	local cc
	read -r cc _ < <(go env CC) # the first word: CC may carry flags
	command -v "$cc" >/dev/null
}

has_node() { command -v node >/dev/null && command -v npm >/dev/null; }

# as_root runs a command as root, or fails without asking for a password.
as_root() {
	if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

install_all() {
	as_root apt-get update -q
	if [[ " $* " == *" postgresql "* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
		# Debian would create and start a server on port 5432, which nobody asked for.
		apt_install postgresql-common
		as_root sed -i 's/^#\? *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
	fi
	apt_install "$@"
}

packages=()
names=()
for need in "$@"; do
	case $need in
	postgres) has_postgres || { packages+=(postgresql) && names+=("PostgreSQL $min_version or newer"); } ;;
	cc) has_cc || { packages+=(gcc libc6-dev) && names+=("a C compiler"); } ;;
	node) has_node || { packages+=(nodejs npm) && names+=("Node.js and npm"); } ;;
	*) echo "unknown need: $need" >&2 && exit 2 ;;
	esac
done
((${#packages[@]})) || exit 0

missing=$(IFS=,; echo "${names[*]}")
if ! command -v apt-get >/dev/null; then
	echo "missing: $missing" >&2
	echo "install it, for example: brew install postgresql@17 node, or dnf install postgresql-server gcc nodejs" >&2
	echo "PostgreSQL in an unusual place is found through RELAY_PG_BIN=<folder of initdb>" >&2
	exit 1
fi
if ! as_root true 2>/dev/null; then
	echo "missing: $missing. Install it with:" >&2
	echo "    sudo apt-get update && sudo apt-get install -y ${packages[*]}" >&2
	exit 1
fi
echo "installing $missing: apt-get install ${packages[*]}"
install_all "${packages[@]}"
if [[ " ${packages[*]} " == *" postgresql "* ]] && ! has_postgres; then
	echo "this system's PostgreSQL is older than $min_version; install a newer one and set RELAY_PG_BIN" >&2
	exit 1
fi
