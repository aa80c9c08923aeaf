# The trainer's dependencies with test tools on top: what `dev/in-trainer-image` runs in. It ships nowhere.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY dev/images/test-requirements.txt /tmp/requirements.txt
RUN if [ -d /var/cache/wheels ]; then export UV_CACHE_DIR=/var/cache/wheels; else export UV_NO_CACHE=1; fi \
    && export PYTHONDONTWRITEBYTECODE= PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_LINK_MODE=copy UV_SYSTEM_CERTS=1 \
    && python3 -m venv /tmp/installer && /tmp/installer/bin/pip install --quiet --no-cache-dir uv \
    && /tmp/installer/bin/uv pip install --compile-bytecode --no-deps --requirement /tmp/requirements.txt \
    && rm -rf /tmp/installer /tmp/requirements.txt
