# Builds from a clone alone: docker build -t client-failover . Only what every builder knows is used
# here, the one before BuildKit included. tests/deploy/image.py runs these very steps where there is
# no container engine, and refuses a step that it does not know.

# The images, by tag: a digest could not be looked up where this was written. Whoever wants builds
# that can be repeated to the byte gives one, as --build-arg DEBIAN_IMAGE=debian@sha256:… For the
# compose stack all images are named in docker-compose.yml.
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG RUST_IMAGE=rust:1.95-bookworm

# What the service runs in, without the service. It is a stage of its own and the first, so that a
# binary that was built elsewhere can be put into the very same surroundings: docker build --target
# runtime.
FROM ${DEBIAN_IMAGE} AS runtime
# The authorities that are believed where the service or a command is the client: https:// of an
# issuer, a collector, another service. Nothing else needs them.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
# A fixed number, so that a policy that wants a numeric user (as in Kubernetes' runAsNonRoot) can
# see that it is not root.
RUN groupadd --gid 10001 client-failover \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin client-failover
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["client-failover"]
CMD ["serve"]

# The manifests, and an empty file for each target that cargo finds in them: it parses none whose
# files are not there.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN targets=$(cargo metadata --no-deps --offline --format-version 1 | grep -o '"src_path":"[^"]*"' | cut -d '"' -f 4) \
 && find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' -delete \
 && for target in $targets; do mkdir -p "$(dirname "$target")" && echo 'fn main() {}' > "$target" || exit 1; done \
 && find . -type d -empty -delete

FROM ${RUST_IMAGE} AS build
WORKDIR /src
# The dependencies have a layer of their own, built with those empty sources: a change of ours does
# not build them again.
COPY --from=manifests /src ./
RUN cargo build --release --locked
COPY . .
# The commit that this is, which the program tells: --build-arg SOURCE_COMMIT=$(git rev-parse HEAD)
ARG SOURCE_COMMIT=
# The copied files keep their dates, which can be older than the empty ones': without the touch
# cargo would see nothing new.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo build --release --locked

FROM runtime
COPY --from=build /src/target/release/client-failover /usr/local/bin/client-failover
