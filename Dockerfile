# `jclip serve` in a container.
#
#     docker build --tag jclip .                                              # for the CPU
#     docker build --tag jclip --build-arg DEVICE=cuda .                      # for an NVIDIA GPU
#     docker run --publish 127.0.0.1:8080:8080 --volume jclip-models:/models \
#         --env JCLIP_MODEL=jinaai/jina-clip-v2 --env JCLIP_SERVER_API_KEYS=... jclip      # with DEVICE=cuda: --gpus all
#
# On the CPU the model runs on ONNX Runtime, and the image has no torch. DEVICE=cuda adds torch with CUDA, some gigabytes;
# TORCH_INDEX takes it from another index.
#
# Weights are downloaded and converted to ONNX at the first start; both are kept in the volume. A folder of weights needs
# no network:
#     docker run ... --volume /path/to/weights:/weights:ro --env JCLIP_MODEL=/weights jclip serve --name jina-clip-v2

ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/jclip
# Before our files, so that a change of them does not download it again.
RUN [ "$DEVICE" = cpu ] || /opt/jclip/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.5"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY core_encoder ./core_encoder
COPY jclip_connectors ./jclip_connectors
RUN if [ "$DEVICE" = cpu ]; then /opt/jclip/bin/pip install ".[server]"; \
    else /opt/jclip/bin/pip install ".[server,local]"; fi

FROM python:${PYTHON}-slim
# "cpu" or "cuda": the server does not start where there is no such device, rather than being slow.
ARG DEVICE=cpu
RUN useradd --create-home --uid 1000 jclip && install --directory --owner jclip /models
COPY --from=build /opt/jclip /opt/jclip
ENV PATH=/opt/jclip/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    JCLIP_CACHE_DIR=/models/jclip \
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
