#!/usr/bin/env bash
# Builds the container image without a registry and without a daemon: the same files as the Dockerfile puts in, on an empty base.
# build.sh [archive]; the result is an OCI archive that `podman pull oci-archive:<file>` and `skopeo copy` take.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v buildah >/dev/null || { echo "buildah is missing: run make tools, or apt-get install buildah" >&2; exit 1; }
[ "$(id -u)" = 0 ] || exec buildah unshare "$0" "$@"

case "$(uname -m)" in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
version=$(node -p 'require("./package.json").version')
archive=${1:-dist/foedus-$version-linux-$arch.oci.tar}
name=localhost/foedus:$version

store=$(mktemp -d)
export BUILDAH_ISOLATION=chroot
run() { buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"; }
container=
cleanup() {
  [ -z "$container" ] || { run umount "$container" && run rm "$container"; } >/dev/null 2>&1 || true
  rm -rf "$store"
}
trap cleanup EXIT

container=$(run from scratch)
ops/image/rootfs.sh "$(run mount "$container")" --with-libs
# The same settings as in the Dockerfile; test/e2e/image.spec.ts compares the two.
run config \
  --arch "$arch" --os linux --user 65532:65532 --workingdir /var/lib/foedus --stop-signal SIGTERM \
  --env PATH=/usr/bin --env NODE_OPTIONS=--max-semi-space-size=2 --env MALLOC_ARENA_MAX=1 \
  --port 18800 --port 18801 --port 18802 --port 18803 --port 18804 --port 18810 --port 18811 --port 18812 \
  --port 18813 --port 18814 --port 18815 --port 18816 --port 18817 --port 18818 --port 18819 \
  --label org.opencontainers.image.title=foedus \
  --label org.opencontainers.image.description="Federation fabric: hubs of different owners work as one without giving up control" \
  --label org.opencontainers.image.licenses=Apache-2.0 \
  --label org.opencontainers.image.version="$version" \
  --label org.opencontainers.image.revision="${REVISION:-$(git rev-parse HEAD 2>/dev/null || true)}" \
  --entrypoint '["/usr/bin/foedus"]' --cmd '' "$container"
root=$(run mount "$container")
chown 65532:65532 "$root/var/lib/foedus"
unpacked=$(du --bytes --summarize "$root" | cut -f1)
# A fixed time, so that the same sources give the same layer.
run commit --quiet --timestamp "${SOURCE_DATE_EPOCH:-0}" "$container" "$name" >/dev/null
mkdir -p "$(dirname "$archive")"
rm -f "$archive"
run push --quiet "$name" "oci-archive:$archive:$name"
echo "$archive: $(($(stat -c %s "$archive") / 1000000)) MB packed, $((unpacked / 1000000)) MB unpacked"
