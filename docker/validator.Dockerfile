# The validator: its daemon, and the worker processes that measure models on a GPU or on CPUs.
# Build from the repository's root: docker build -f docker/validator.Dockerfile -t gradients-validator .
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
COPY docker/packages.lock ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --requirement packages.lock
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gradients gradients
COPY validator validator
COPY miner miner
COPY configs configs
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation '.[train,image,redis,postgres,s3]'

FROM python:3.11.13-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home gradients
COPY --from=build /venv /venv
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/gradients
VOLUME /home/gradients
EXPOSE 8090 8091
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8090/readyz', timeout=5)"]
ENTRYPOINT ["gradients"]
CMD ["validator", "run", "--log-style", "json", "--api-host", "0.0.0.0"]
