# The miner: its daemon, and the worker processes that train on a GPU or on CPUs.
# Build from the repository's root: docker build -f docker/miner.Dockerfile -t gradients-miner .
FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1 AS build
WORKDIR /src
COPY docker/steps docker/packages.lock docker/
RUN docker/steps packages /venv docker/packages.lock
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gradients gradients
COPY validator validator
COPY miner miner
COPY configs configs
RUN docker/steps project /venv '.[train,gpu,image,redis]'

FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
# bubblewrap for rewards that run programs.
RUN --mount=type=bind,source=docker/steps,target=/steps /steps system bubblewrap && /steps user
COPY --from=build /venv /venv
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/gradients
VOLUME /home/gradients
EXPOSE 8091
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8092/readyz', timeout=5)"]
ENTRYPOINT ["gradients"]
CMD ["miner", "run", "--log-style", "json"]
