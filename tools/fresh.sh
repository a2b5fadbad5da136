#!/usr/bin/env bash
# fresh.sh SUITE...: follows the README on machines on which nothing is installed. For each Debian release, a root file system of its
# own is made with debootstrap, what the README asks for is installed in it, the last commit is cloned there, and the README's two
# commands run. FRESH_COMMAND runs something else instead of `make test`, such as `.ci/run`. Needs root; ends with 0 if all passed.
#
# How this machine reaches package archives (certificates, proxies, clients' settings) is copied; nothing else is.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
suites=("${@:-bookworm}")
command=${FRESH_COMMAND-make test}
needs="git make nodejs npm"

[ "$(id -u)" = 0 ] || { echo "make fresh makes root file systems: run it as root" >&2; exit 1; }
for program in debootstrap unshare tar git; do
  command -v "$program" >/dev/null || { echo "$program is missing: run make tools, or apt-get install $program" >&2; exit 1; }
done
[ -z "$(git status --porcelain -uno)" ] || echo "note: what is not committed is not part of it"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/foedus-fresh-XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
cache=.tools/fresh
mkdir -p "$cache"

# Bare systems are kept: making one takes a minute.
bare() {
  local suite=$1 archive=$cache/$1.tar
  if [ ! -s "$archive" ]; then
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/bare" >"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log" >&2; return 1; }
    tar -C "$work/bare" --one-file-system -cf "$archive.new" .
    mv "$archive.new" "$archive"
    rm -rf --one-file-system "$work/bare"
  fi
}

# Settings with which this machine reaches archives (proxies and certificates, not programs), and the demo's ports, as the network is shared.
settings() {
  env | grep -E '^(FOEDUS_DEMO_PORT|(https?|no|all)_proxy|npm_config_[a-z_]+|GOPROXY|GOSUMDB|GONOSUMDB|PIP_(INDEX_URL|CERT|PROXY)|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR))=' -i || true
}

# Runs a command line in a root, in namespaces of its own: what it leaves running ends with it.
inside() {
  local root=$1
  shift
  local -a variables
  mapfile -t variables < <(settings)
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount --pid --fork --kill-child bash -c '
    root=$1; shift
    # As on a machine, / is a mount: containers are built by changing how it is.
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    # A process that joins a container starts at the root of its mount namespace, so that this must be it too: chroot alone is not enough.
    mkdir -p "$root/mnt/outside"
    cd "$root"
    pivot_root . mnt/outside
    exec chroot . /bin/bash -c "umount -l /mnt/outside && exec \"\$@\"" inside "$@"' inside "$root" \
    /usr/bin/env -i "${variables[@]}" HOME=/root LANG=C.UTF-8 CI=true PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    bash -c "$1" </dev/null
}

fresh() {
  local suite=$1 root=$work/$1
  bare "$suite" || return 1
  mkdir "$root"
  tar -C "$root" -xf "$cache/$suite.tar"
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  for setting in /etc/apt/apt.conf.d/99* /etc/ssl/certs/ca-certificates.crt /usr/etc/npmrc /root/.npmrc /etc/pip.conf; do
    [ ! -f "$setting" ] || install -D -m 644 "$setting" "$root$setting"
  done
  git clone -q --no-local "$source" "$root/root/foedus"
  inside "$root" "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $needs" >"$work/apt.log" 2>&1 ||
    { tail -5 "$work/apt.log" >&2; return 1; }
  # shellcheck disable=SC2016 # expanded inside
  inside "$root" 'echo "node $(node --version), npm $(npm --version), $(. /etc/os-release; echo "$PRETTY_NAME")"'
  inside "$root" 'cd ~/foedus && make tour && make down && cd / && ~/foedus/bin/foedus version' || return 1
  [ -z "$command" ] || inside "$root" "cd ~/foedus && $command"
}

failed=0
for suite in "${suites[@]}"; do
  echo "== $suite"
  started=$SECONDS
  if fresh "$suite"; then echo "== $suite: passed ($((SECONDS - started)) s)"; else
    echo "== $suite: FAILED ($((SECONDS - started)) s)"
    failed=1
  fi
  rm -rf --one-file-system "${work:?}/$suite"
done
exit $failed
