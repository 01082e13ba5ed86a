# The proxy alone: one process, no root, nothing written outside /data.
#
#   docker build --tag clipmeter .
#   docker run --read-only --env APIYI_API_KEY --publish 8080:8080 --volume clipmeter:/data clipmeter
#
# The working folder is /, so config.yaml is read from /config.yaml and ./data is the volume /data.
# The install steps are those of `make demo` (tests/test_build.py compares them).

FROM python:3.11-slim

WORKDIR /app
RUN python3 -m venv .venv
COPY requirements.lock ./
RUN .venv/bin/pip install --quiet --disable-pip-version-check --no-deps \
    --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md ./
COPY proxy ./proxy
RUN .venv/bin/pip install --quiet --disable-pip-version-check --no-deps \
    --no-build-isolation --editable .
RUN .venv/bin/python -m compileall -q proxy && install -d -o 10001 -g 10001 -m 0700 /data

ENV PYTHONUNBUFFERED=1
WORKDIR /
USER 10001:10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/app/.venv/bin/python", "-c", \
    "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8080, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["/app/.venv/bin/clipmeter"]
CMD ["serve", "--host", "0.0.0.0"]
