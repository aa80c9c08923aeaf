# The trainer's base image on a machine without a registry: Debian's own CPU build of torch.
# PyPI's torch brings CUDA libraries of several gigabytes, which only a GPU machine needs.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# unchecked-hash: the bytecode stays valid although the layer's time stamps are zero. Debian's own would not be used, and each
# start compile a thousand modules of torch.
# Without libopenblas0-pthread torch computes on the reference BLAS, 50 times slower. Not libopenblas0-openmp: with it (0.3.29)
# the built-in server gave wrong answers in every other run of its tests, probably as its threads and others differ in number.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get -o Dpkg::Options::=--force-unsafe-io install --yes --no-install-recommends \
       python3-torch libopenblas0-pthread \
    && python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3/dist-packages \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
