# The image of skinkit. First, on a machine with a package index: make wheelhouse VARIANT=tables|cpu|cuda
# Then nothing is fetched but Debian's Python. docs/container.md says how it is run.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
COPY wheelhouse /wheelhouse
RUN python3 -m venv /opt/skinkit \
 && /opt/skinkit/bin/pip install --quiet --no-index --find-links /wheelhouse --require-hashes \
    --requirement /wheelhouse/requirements.txt \
 && /opt/skinkit/bin/pip uninstall --quiet --yes pip setuptools

FROM ${BASE}
# libgomp is what LightGBM and PyTorch compute with.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin skinkit \
 && install --directory --owner skinkit --group skinkit --mode 0700 /work /var/cache/skinkit
# Owned by root, so that the process that reads photos cannot change what it runs.
COPY --from=build /opt/skinkit /opt/skinkit
ENV PATH=/opt/skinkit/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    SKINKIT_CACHE_DIR=/var/cache/skinkit \
    MPLCONFIGDIR=/var/cache/skinkit/matplotlib
USER 10001:10001
WORKDIR /work
# Fails the build if the installation does not work, and leaves the compiled radiomics kernels in the cache.
RUN skinkit selftest
VOLUME ["/work", "/var/cache/skinkit"]
HEALTHCHECK --interval=24h --timeout=5m --start-period=5m --retries=1 CMD ["skinkit", "selftest", "--quiet"]
ENTRYPOINT ["skinkit"]
CMD ["--help"]
