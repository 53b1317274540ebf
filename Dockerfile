# The action's image: the binary, the few files of libc it needs, CA certificates and buildx. No shell, no package manager, no git.
#
# `./dev image` hands in what this machine has built already: `--build-context compile=DIR` with DIR/cicd, and
# `--build-context buildx=DIR` with DIR/docker-buildx, take the place of the stages of these names; `base` is its own Debian.
#
# Whoever moves a tag would have the tokens of every job: bases are pinned by the digest of their index for all platforms.

FROM rust:1.95-slim-trixie@sha256:28846ec5a6bcfcddb93f403ba7071bd579787852b2f2ac3839965620e8bd9456 AS compile
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake g++ make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY workflows workflows
COPY tests/it/main.rs tests/it/main.rs
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin cicd && cp target/release/cicd /cicd

# Docker publishes its release binaries in no package registry; its sources are in Go's, each version by its hash.
FROM golang:1.26-trixie@sha256:87ffdb09b6a2e29ff910748b745395e8a0299aa80b7c0551cdca9b55e3fd2b3e AS buildx
RUN CGO_ENABLED=0 GOBIN=/ go install -trimpath -ldflags "-s -w" github.com/docker/buildx/cmd/buildx@v0.29.1 \
 && mv /buildx /docker-buildx

FROM debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f AS base

FROM base AS files
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libgcc-s1 \
 && rm -rf /var/lib/apt/lists/*
# Exactly what the two binaries load, whatever the architecture calls it.
RUN --mount=from=compile,target=/compile --mount=from=buildx,target=/buildx \
    mkdir -p /files/etc/ssl/certs /files/usr/libexec/docker/cli-plugins \
 && install -d -m 1777 /files/tmp \
 && install -m 755 /compile/cicd /files/cicd \
 && install -m 755 /buildx/docker-buildx /files/usr/libexec/docker/cli-plugins/docker-buildx \
 && for program in /compile/cicd /buildx/docker-buildx; do { ldd "$program" || true; } | grep -oE '/[^ ]+\.so[^ ]*'; done \
    | sort -u | xargs --no-run-if-empty cp --parents --dereference --target-directory=/files \
 && cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/

FROM scratch
COPY --from=files /files /
# GitHub's runner gives HOME a value of its own.
ENV HOME=/tmp
ENTRYPOINT ["/cicd"]
