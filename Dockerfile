# The service, and with it every command: docker run --rm ingestd:0.1.0 --help
# Versions are those of deploy/constraints.txt; where packages come from is the builder's pip configuration.

FROM python:3.13-slim AS build
WORKDIR /src
# Without pip in it: the environment is copied as it is and nothing is installed later.
RUN python -m venv --without-pip /opt/ingestd
COPY pyproject.toml README.md LICENSE ./
COPY ingestd ingestd
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
COPY deploy/constraints.txt ./
# What docs/start.md says of extras, as aws or nats: docker build --build-arg EXTRAS=aws,nats .
ARG EXTRAS=
RUN pip --python /opt/ingestd/bin/python install --no-cache-dir -c constraints.txt \
    "$(echo /wheels/*.whl)${EXTRAS:+[$EXTRAS]}"

FROM python:3.13-slim
LABEL org.opencontainers.image.title="ingestd" \
      org.opencontainers.image.description="Gets every event to where it belongs, once" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
COPY --from=build /opt/ingestd /opt/ingestd
# A volume that is made here begins with this owner. Numbers, because Kubernetes cannot look up a name.
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/ingestd
# The root file system may be read-only: nothing is written outside the volume, bytecode was written above.
ENV PATH=/opt/ingestd/bin:$PATH \
    HOME=/var/lib/ingestd \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /var/lib/ingestd
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
# http.client, because urllib would send this to the proxy of the environment. There is no curl here.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9464, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["ingestd"]
CMD ["run", "--config", "/etc/ingestd/ingestd.toml"]
