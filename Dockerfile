# One file, three images: operator (no torch), learner, robot. Build with --target.
#   docker build --target operator -t fleetloop-operator .
# BASE may be any image with Python 3.11 or newer and its venv module.
ARG BASE=python:3.11-slim

FROM ${BASE} AS wheel
WORKDIR /src
COPY requirements/build.txt requirements/build.txt
RUN python3 -m venv /opt/build && \
    /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY operator operator
COPY runtime runtime
COPY cli cli
RUN /opt/build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /dist .

FROM ${BASE} AS base
RUN python3 -m venv /opt/fleetloop
ENV PATH=/opt/fleetloop/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The number that the manifests name too; it owns nothing in the image.
USER 65532:65532

FROM base AS operator
USER root
COPY requirements/operator.txt /tmp/requirements.txt
COPY --from=wheel /dist /tmp/dist
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt && \
    pip install --no-cache-dir --no-deps --no-index /tmp/dist/*.whl && \
    rm -r /tmp/requirements.txt /tmp/dist
USER 65532:65532
CMD ["python", "-m", "fleet_operator"]

FROM base AS learner
USER root
COPY requirements/learner.txt /tmp/requirements.txt
COPY --from=wheel /dist /tmp/dist
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt && \
    pip install --no-cache-dir --no-deps --no-index /tmp/dist/*.whl && \
    rm -r /tmp/requirements.txt /tmp/dist
USER 65532:65532
CMD ["python", "-m", "fleet_runtime.learner"]

FROM base AS robot
USER root
COPY requirements/robot.txt /tmp/requirements.txt
COPY --from=wheel /dist /tmp/dist
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt && \
    pip install --no-cache-dir --no-deps --no-index /tmp/dist/*.whl && \
    rm -r /tmp/requirements.txt /tmp/dist
USER 65532:65532
CMD ["python", "-m", "fleet_runtime.robot"]
