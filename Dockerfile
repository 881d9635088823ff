# rprof as an image: one static binary and the certificates for debuginfod and https, nothing else.
#   docker build -t rprof .
# docs/SIDECAR.md says how to run it beside a container.
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
