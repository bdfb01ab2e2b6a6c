# One image for every role; the command says which. Built in two stages: pip and its leftovers stay in the first.
FROM python:3.11-slim-bookworm AS build
# What the package index has for torch on x86_64 Linux brings CUDA along. For the CPU build, pass the address of PyTorch's
# index of CPU builds: docker compose build --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/greenroom
# Dependencies first: they change less often than the code, and this layer is the large one.
COPY pyproject.toml requirements.lock ./
RUN /opt/greenroom/bin/pip install --no-deps --require-hashes -r requirements.lock \
 && /opt/greenroom/bin/pip install "$(sed -n 's/^ *"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)"
COPY . .
# What is left out of the lock: docker compose build --build-arg EXTRAS=s3
ARG EXTRAS=
RUN /opt/greenroom/bin/pip install --no-deps --no-build-isolation . \
 && { [ -z "$EXTRAS" ] || /opt/greenroom/bin/pip install --no-build-isolation ".[$EXTRAS]"; }

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/greenroom greenroom \
 && install -d -o greenroom -g greenroom -m 0750 /var/lib/greenroom /var/lib/greenroom/storage
COPY --from=build /opt/greenroom /opt/greenroom
ENV PATH=/opt/greenroom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GREENROOM_HOME=/var/lib/greenroom \
    GREENROOM_STORAGE_ROOT=/var/lib/greenroom/storage
WORKDIR /var/lib/greenroom
USER greenroom
ENTRYPOINT ["greenroom"]
CMD ["--help"]
