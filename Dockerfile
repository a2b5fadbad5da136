# The container image of Foedus: one Node program, no shell. `make image` makes the same without a registry.
#
#   docker build -t foedus .
#   docker run --rm foedus version
#   docker run -v "$PWD/home:/etc/foedus:ro" -v home-data:/var/lib/foedus --read-only foedus hub \
#     --config /etc/foedus/hub.json --set data_dir=/var/lib/foedus
#
# What builds it, and what it stands on. The base needs libc, libstdc++ and nothing else, so debian:bookworm-slim does as well.
# Distroless has no tags for versions: give BASE with its digest to pin it.
ARG BUILD=node:24.21.0-bookworm-slim
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# Versions and hashes come from the lock, the Node that ships as well.
RUN npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
COPY . .
RUN ops/image/rootfs.sh /rootfs

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="foedus" \
      org.opencontainers.image.description="Federation fabric: hubs of different owners work as one without giving up control" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs/usr /usr
COPY --from=build --chown=65532:65532 /rootfs/var/lib/foedus /var/lib/foedus
# A small young generation and one malloc arena, for less memory at the price of more frequent collections (docs/INSTALL.md); empty both for
# full speed.
ENV PATH=/usr/bin NODE_OPTIONS=--max-semi-space-size=2 MALLOC_ARENA_MAX=1
# Services in split mode (18800 is also the one port of single mode), then health and metrics of each (18810 and 18811 also in single mode).
EXPOSE 18800 18801 18802 18803 18804 18810 18811 18812 18813 18814 18815 18816 18817 18818 18819
USER 65532:65532
WORKDIR /var/lib/foedus
# The hub ends its sessions, finishes what runs and commits within stop_grace_ms.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/foedus"]
