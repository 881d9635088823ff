# The rprof image: one static binary, and root certificates for debuginfod and https.
#   docker build -t rprof .
# docs/SIDECAR.md tells how to run it as a sidecar.
ARG RUST_IMAGE=rust:1-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
ARG RPROF_COMMIT=
ARG RPROF_DATE=
RUN RPROF_COMMIT=$RPROF_COMMIT RPROF_DATE=$RPROF_DATE scripts/package --binary "$(uname -m)" \
    && mkdir -p /image/etc/ssl/certs /image/profiles \
    && cp "target/shipped/$(uname -m)/rprof" /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
COPY --from=build /image/ /
WORKDIR /profiles
ENTRYPOINT ["/rprof"]
CMD ["--help"]
