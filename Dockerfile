# The rprof image: one static binary, and root certificates for debuginfod and https.
#   docker build -t rprof .
# docs/SIDECAR.md tells how to run it as a sidecar.
ARG RUST_IMAGE=rust:1-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo rustc --profile dist --locked --bin rprof -- -C target-feature=+crt-static \
    && mkdir -p /image/etc/ssl/certs /image/profiles \
    && cp target/dist/rprof /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image/ /
WORKDIR /profiles
ENTRYPOINT ["/rprof"]
CMD ["--help"]
