# `jclip serve` in a container.
#
#     docker build --tag jclip .                                              # for the CPU
#     docker build --tag jclip --build-arg DEVICE=cuda .                      # for an NVIDIA GPU
#     docker run --publish 127.0.0.1:8080:8080 --volume jclip-models:/models \
#         --env JCLIP_MODEL=jinaai/jina-clip-v2 --env JCLIP_SERVER_API_KEYS=... jclip      # with DEVICE=cuda: --gpus all
#
# The default wheels of torch hold CUDA, which a CPU does not need. TORCH_INDEX takes torch from another index: the one
# that torch's instructions name for CPU builds makes the image some gigabytes smaller.
#
# Weights are downloaded at the first start and kept in the volume. A folder of weights needs no network:
#     docker run ... --volume /path/to/weights:/weights:ro --env JCLIP_MODEL=/weights jclip serve --name jina-clip-v2

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/jclip
# Before our files, so that a change of them does not download it again.
RUN /opt/jclip/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.5"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY core_encoder ./core_encoder
COPY jclip_connectors ./jclip_connectors
RUN /opt/jclip/bin/pip install ".[server]"

FROM python:${PYTHON}-slim
# "cpu" or "cuda": the server does not start where there is no such device, rather than being slow.
ARG DEVICE=cpu
RUN useradd --create-home --uid 1000 jclip && install --directory --owner jclip /models
COPY --from=build /opt/jclip /opt/jclip
ENV PATH=/opt/jclip/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    JCLIP_SERVER_HOST=0.0.0.0 \
    JCLIP_SERVER_PORT=8080 \
    JCLIP_SERVER_DEVICE=${DEVICE}
USER jclip
VOLUME /models
EXPOSE 8080
# Weights are downloaded before the first answer. The port is the one that the server reads.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['JCLIP_SERVER_PORT']}/live\")"]
# SIGTERM finishes what was accepted.
STOPSIGNAL SIGTERM
ENTRYPOINT ["jclip"]
CMD ["serve"]
