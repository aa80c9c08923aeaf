# The trainer's base image on a machine without a registry: Debian's own CPU build of torch.
# PyPI's torch brings CUDA libraries of several gigabytes, which only a GPU machine needs.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# unchecked-hash: the bytecode stays valid although the layer's time stamps are zero. Debian's own would not be used, and each
# start compile a thousand modules of torch.
# Without OpenBLAS torch computes on the reference BLAS, 50 times slower. Its OpenMP build shares torch's threads; the one with
# threads of its own fights with them: products in float32 were four times slower.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Options::=--force-unsafe-io install --yes --no-install-recommends \
       python3-torch libopenblas0-openmp \
    && python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3/dist-packages \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
