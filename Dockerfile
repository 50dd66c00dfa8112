# Builds from a clone alone: docker build -t client-failover . Only what every builder knows is used
# here, the one before BuildKit included. tests/deploy/image.py runs these very steps where there is
# no container engine, and refuses a step that it does not know.

# The images, by tag: a digest could not be looked up where this was written. Whoever wants builds
# that can be repeated to the byte gives one, as --build-arg DEBIAN_IMAGE=debian@sha256:… For the
# compose stack all images are named in docker-compose.yml.
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG RUST_IMAGE=rust:1.95-bookworm

# A Debian with the authorities that are believed where the service or a command is the client:
# https:// of an issuer, a collector, another service. And with the account: a fixed number, so that
# a policy that wants a numeric user (as in Kubernetes' runAsNonRoot) can see that it is not root.
FROM ${DEBIAN_IMAGE} AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 client-failover \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin client-failover

# The manifests, and an empty file for each target that cargo finds in them: it parses none whose
# files are not there.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN targets=$(cargo metadata --no-deps --offline --format-version 1 | grep -o '"src_path":"[^"]*"' | cut -d '"' -f 4) \
 && find . ! -type d ! -name Cargo.toml ! -name Cargo.lock ! -path './.cargo/*' -delete \
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

# The package that is installed on machines, too. The time that its files have is
# --build-arg SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
ARG SOURCE_DATE_EPOCH=0
RUN deploy/packages/build target/release/client-failover target/packages deb

# What is in the image: the program of the package, the libraries that it is linked to, the
# authorities and the account; and for whoever looks for known vulnerabilities, what is of which
# package of Debian. No shell, and nothing else to start.
FROM base AS root
COPY --from=build /src/target/packages /packages
RUN dpkg-deb --extract /packages/client-failover_*.deb /package \
 && mkdir -p /image/usr/share/doc /image/var/lib/dpkg/status.d /image/dev /image/proc /image/sys \
 && install -D /package/usr/bin/client-failover /image/usr/bin/client-failover \
 && cp -r /package/usr/share/doc/client-failover /image/usr/share/doc \
 && ldd /package/usr/bin/client-failover | grep -o '/[^ ]*' | xargs cp --parents --dereference --target-directory=/image \
 && cp --parents /etc/passwd /etc/group /etc/nsswitch.conf /etc/ssl/certs/ca-certificates.crt /image \
 && for package in libc6 libgcc-s1 ca-certificates; do \
      dpkg --status $package > /image/var/lib/dpkg/status.d/$package \
      && cp -r --parents /usr/share/doc/$package/copyright /image || exit 1; \
    done \
 && install -d -m 1777 /image/tmp

# The same with PostgreSQL, for one replica that keeps its data in a volume:
# docker build --target standalone
FROM base AS standalone
RUN mkdir /etc/postgresql-common \
 && echo create_main_cluster = false > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install --yes --no-install-recommends postgresql \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -m 700 -o 10001 -g 10001 /var/lib/client-failover
COPY --from=root /image/usr/bin/client-failover /usr/bin/client-failover
LABEL org.opencontainers.image.title=client-failover
LABEL org.opencontainers.image.description="Tells redundant clients which of them acts; with PostgreSQL"
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0"
LABEL org.opencontainers.image.version=0.1.0
ARG SOURCE_COMMIT=
LABEL org.opencontainers.image.revision=${SOURCE_COMMIT}
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV CLIENT_FAILOVER_DATA_DIR=/var/lib/client-failover
VOLUME ["/var/lib/client-failover"]
USER 10001:10001
EXPOSE 8080
# Where it listens on another port or with TLS, say how it is asked: --health-cmd, or healthcheck in
# a compose file.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["client-failover", "health"]
ENTRYPOINT ["client-failover"]
CMD ["serve"]

# The last one is what is built where no target is given.
FROM scratch AS plain
COPY --from=root /image /
LABEL org.opencontainers.image.title=client-failover
LABEL org.opencontainers.image.description="Tells redundant clients which of them acts"
LABEL org.opencontainers.image.licenses="MIT OR Apache-2.0"
LABEL org.opencontainers.image.version=0.1.0
ARG SOURCE_COMMIT=
LABEL org.opencontainers.image.revision=${SOURCE_COMMIT}
ENV PATH=/usr/bin
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD ["client-failover", "health"]
ENTRYPOINT ["client-failover"]
CMD ["serve"]
