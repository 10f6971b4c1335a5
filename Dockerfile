# One file, three images: operator (no torch), learner, and robot, which is the learner's packages
# and the simulators on top, so that torch is stored once. Build with --target.
#   docker build --target operator -t fleetloop-operator .
# BASE may be any image with Python 3.11 or newer and its venv module. TORCH_INDEX names an index
# with another torch than PyPI's CUDA build; requirements/install says what becomes of the hashes.
ARG BASE=python:3.11-slim

FROM ${BASE} AS bare
ENV PATH=/opt/fleetloop/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1

# By this date archives are stamped, and compiled files name their source by its hash: what is built
# again from the same locks is the same to the last bit.
FROM bare AS base
ENV SOURCE_DATE_EPOCH=315532800
RUN python3 -m venv /opt/fleetloop

# What others wrote changes seldom; ours comes last, so that a build after an edit is short.
FROM base AS operator-packages
COPY requirements/install requirements/operator.txt /requirements/
RUN /requirements/install operator.txt

FROM base AS learner-packages
ARG TORCH_INDEX=
COPY requirements/install requirements/learner.txt /requirements/
RUN /requirements/install learner.txt

FROM learner-packages AS robot-packages
ARG TORCH_INDEX=
COPY requirements/robot.txt /requirements/
RUN /requirements/install robot.txt

FROM base AS wheel
WORKDIR /src
COPY requirements/install requirements/build.txt /requirements/
RUN /requirements/install build.txt
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY operator operator
COPY runtime runtime
COPY cli cli
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /dist .

# What is at work installs nothing.
FROM operator-packages AS operator-installed
COPY --from=wheel /dist /dist
RUN pip install --no-deps --no-index /dist/*.whl && pip uninstall --yes setuptools pip
# Kubernetes' library loads what it has for each kind when it is asked for; the operator speaks
# plain JSON through its client and never asks. That is three quarters of what it would carry.
RUN for client in /opt/fleetloop/lib/python3*/site-packages/kubernetes/client \
        /opt/fleetloop/lib/python3*/site-packages/kubernetes/aio/client; do \
        find "$client/api" "$client/models" -type f ! -path '*/models/__init__*' -delete; \
    done

# 65532 is the number that the manifests name too; it owns nothing in the image.
FROM bare AS operator
COPY --from=operator-installed /opt/fleetloop /opt/fleetloop
USER 65532:65532
CMD ["python", "-m", "fleet_operator"]

FROM learner-packages AS learner
COPY --from=wheel /dist /dist
RUN pip install --no-deps --no-index /dist/*.whl
USER 65532:65532
CMD ["python", "-m", "fleet_runtime.learner"]

FROM robot-packages AS robot
COPY --from=wheel /dist /dist
RUN pip install --no-deps --no-index /dist/*.whl
USER 65532:65532
CMD ["python", "-m", "fleet_runtime.robot"]
