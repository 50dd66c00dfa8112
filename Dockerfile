# Builds from a clone alone: docker build -t client-failover .
# Only what every builder knows is used here, the one before BuildKit included.

# What the service runs in, without the service. It is a stage of its own and the first, so that a binary that was built
# elsewhere can be put into the very same surroundings: docker build --target runtime.
FROM debian:bookworm-slim AS runtime
# A fixed number, so that a policy that wants a numeric user (as in Kubernetes' runAsNonRoot) can see that it is not root.
RUN groupadd --gid 10001 client-failover \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin client-failover
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["client-failover"]
CMD ["serve"]

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The dependencies have a layer of their own, built with empty sources: a change of ours does not build them again.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir -p src tests migrations \
 && echo 'fn main() {}' | tee src/main.rs > tests/main.rs \
 && touch src/lib.rs \
 && cargo build --release --locked
COPY . .
# The copied files keep their dates, which can be older than the empty ones': without the touch cargo would see nothing new.
RUN touch build.rs src/lib.rs src/main.rs && cargo build --release --locked

FROM runtime
COPY --from=build /src/target/release/client-failover /usr/local/bin/client-failover
