# The program with its libraries, for a laptop, a cluster of `ray up` and Kubernetes.
#
#   docker build -t survey:0.1 .                                                             2.4 GB, without a GPU
#   docker build -t survey:0.1-gpu --build-arg TORCH=https://download.pytorch.org/whl/cu128 .          with CUDA
#   docker run --rm -v "$PWD:/work" -w /work survey:0.1 survey mock cemp out=files n=400
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /source
RUN python -m venv /opt/survey
ENV PATH=/opt/survey/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# libraries first: they stay in the cache of Docker when only our code changes
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --extra-index-url "$TORCH" torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY jobs jobs
COPY recipes recipes
COPY tune tune
COPY weights weights
COPY survey survey
RUN pip install --constraint constraints.txt '.[tracking,trees-cpu]'

FROM python:${PYTHON}
# rsync: `ray up` copies files into the container with it; procps: the health check
# survey.sh: `ray up` runs login shells, and their PATH is that of /etc/profile, not that of ENV
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps rsync \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash survey \
    && echo "export PATH=/opt/survey/bin:\$PATH" > /etc/profile.d/survey.sh
COPY --from=build /opt/survey /opt/survey
ENV PATH=/opt/survey/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000
WORKDIR /home/survey
# of a head of Ray: it answers; of any other container: the program starts
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s \
    CMD ["bash", "-c", "if pgrep -x gcs_server; then ray health-check; else survey --help; fi >/dev/null"]
CMD ["survey", "--help"]
