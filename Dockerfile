# Two images: `service` (API, curation, migrations; torch for the CPU) and `train` (a C compiler for torch.compile
# beside it, and a torch of your choice):
#   docker build --target service -t talkmill .
#   docker build --target train --build-arg TORCH_INDEX=https://pypi.org/simple -t talkmill-train .
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PATH=/opt/talkmill/bin:$PATH TALKMILL_DATA_DIR=/data
RUN useradd --create-home --uid 10001 talkmill && install -d -o talkmill -g talkmill /data
WORKDIR /data

FROM base AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /opt/talkmill
COPY constraints.txt ./
# torch comes first: what follows would otherwise pull another build of it.
RUN pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY worker worker
COPY curation curation
COPY trainer trainer
COPY migrations migrations
RUN pip install --constraint constraints.txt .

FROM base AS runtime
COPY --from=build /opt/talkmill /opt/talkmill
USER talkmill
VOLUME /data
ENTRYPOINT ["talkmill"]
CMD ["serve", "--host", "0.0.0.0"]

FROM runtime AS train
USER root
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
USER talkmill
CMD ["worker", "--queues", "train"]

FROM runtime AS service
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=8)"]
