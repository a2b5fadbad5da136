#!/bin/sh
# The installed command: finds its Node and its code beside itself, wherever that is.
here=$(dirname "$(readlink -f "$0")")
lib=$here/../lib/foedus
# For small machines (docs/INSTALL.md): a small young generation, compact code, one malloc arena. FOEDUS_NODE_FLAGS= gives full speed.
flags=${FOEDUS_NODE_FLAGS---max-semi-space-size=2 --optimize-for-size}
[ -z "$flags" ] || export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}"
unset FOEDUS_NODE_FLAGS
# Split on purpose: it is a list.
# shellcheck disable=SC2086
exec "$lib/node" --disable-sigusr1 $flags "$lib/foedus.mjs" "$@"
