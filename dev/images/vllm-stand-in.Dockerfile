# What takes vLLM's place in end-to-end tests on a machine without a GPU: `vllm serve` as a program that speaks vLLM's API. It ships nowhere.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY tests/support/vllm_stand_in.py /opt/stand-in/vllm_stand_in.py
RUN printf '#!/bin/sh\nexec python /opt/stand-in/vllm_stand_in.py "$@"\n' > /usr/local/bin/vllm && chmod 755 /usr/local/bin/vllm
