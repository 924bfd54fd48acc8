# The server in a small image. See docs/deployment.md.

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p adjutant

FROM debian:trixie-slim
# Authorities, for databases and APIs behind TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 adjutant \
    && useradd --uid 10001 --gid adjutant --home-dir /data --no-create-home --shell /usr/sbin/nologin adjutant \
    && install -d -o adjutant -g adjutant -m 0700 /data
COPY --from=build /src/target/release/adjutant /usr/local/bin/adjutant
USER 10001:10001
WORKDIR /data
VOLUME /data
ENV ADJUTANT_LISTEN=0.0.0.0:7717 \
    ADJUTANT_STORE=sqlite:/data/adjutant.db \
    ADJUTANT_LOG_FORMAT=json
EXPOSE 7717
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=15s CMD ["adjutant", "health"]
ENTRYPOINT ["adjutant"]
CMD ["serve"]
