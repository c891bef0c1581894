# auth-gateway as an image: docker build -t auth-gateway .
#
# The configuration is mounted at /etc/auth-gateway, state and keys at /var/lib/auth-gateway:
#   docker run -p 8080:8080 -v ./gateway.toml:/etc/auth-gateway/gateway.toml:ro -v auth-gateway:/var/lib/auth-gateway auth-gateway

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# The C compiler that the image has is all that aws-lc needs. rust-toolchain.toml stays out: the image is the toolchain.
COPY Cargo.toml Cargo.lock ./
COPY gateway gateway
COPY demo-upstream demo-upstream
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p auth-gateway --bin auth-gateway \
    && strip -o /auth-gateway target/release/auth-gateway

FROM debian:bookworm-slim
# Certificates of public authorities, for upstreams, Redis and directories over TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 65532 auth-gateway \
    && useradd --system --uid 65532 --gid 65532 --home-dir /var/lib/auth-gateway --shell /usr/sbin/nologin auth-gateway \
    && install -d -m 0700 -o 65532 -g 65532 /var/lib/auth-gateway \
    && install -d -m 0750 -o root -g 65532 /etc/auth-gateway
COPY --from=build /auth-gateway /usr/bin/auth-gateway
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/auth-gateway/
USER 65532:65532
WORKDIR /var/lib/auth-gateway
VOLUME /var/lib/auth-gateway
EXPOSE 8080
# Requests in flight finish within server.drain_timeout: docker stop --time 40
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["auth-gateway", "healthcheck"]
ENTRYPOINT ["auth-gateway"]
