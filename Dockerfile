# The runtime image: the service, ONNX Runtime and the three built-in models. No torch, no compiler.
#
#   docker build -t regard .                              for NVIDIA GPUs (the host brings the driver alone)
#   docker build -t regard:cpu --build-arg DEVICE=cpu .
#   docker run -p 8000:8000 -v ./my-models:/models:ro -e REGARD_MODELS=/models regard:cpu
#
# Settings are environment variables (REGARD_PORT, REGARD_DEVICE, ...). A pip configuration for the build,
# where one is needed, goes in as a secret: --secret id=pip,src=pip.conf

# Any Debian with Python 3.11 or later; both stages must have the same.
ARG BASE=python:3.13-slim-trixie
ARG DEVICE=gpu

FROM ${BASE} AS builder
ARG DEVICE
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/regard
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
# What we depend on, then ourselves: a change of the code does not fetch CUDA again.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/regard/bin/python -m pip install -c constraints.txt ".[${DEVICE}]"
COPY service service
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/regard/bin/python -m pip install --no-deps --force-reinstall . \
    && /opt/regard/bin/python -m pip uninstall --yes setuptools pip

FROM ${BASE} AS runtime
# Since 1.29 ONNX Runtime reports on its use unless it is told not to.
ENV ORT_DISABLE_TELEMETRY=1 \
    PATH=/opt/regard/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    REGARD_HOST=0.0.0.0 \
    REGARD_PORT=8000 \
    REGARD_DRAIN_SECONDS=5

FROM runtime AS runtime-cpu
ENV REGARD_DEVICE=cpu

FROM runtime AS runtime-gpu
ENV REGARD_DEVICE=cuda:0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime-${DEVICE}
LABEL org.opencontainers.image.title="Regard" \
      org.opencontainers.image.description="An inference server for attention models that shows where they look" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin regard
COPY --from=builder /opt/regard /opt/regard
# By number, so that Kubernetes can tell that it is not root.
USER 10001
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['REGARD_PORT']), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
# Exec form: the server itself is process 1 and gets SIGTERM.
ENTRYPOINT ["regard"]
CMD ["serve"]
