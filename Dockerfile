# charrnn in an image below 400 MB, most of which is LLVM: docs/installing.md says how large each part is.
#   docker build -t charrnn .
#   docker run --rm charrnn sample --count 5
#   docker run --rm -v "$PWD:/work" -v charrnn:/cache charrnn train corpus.txt

FROM debian:bookworm-slim AS packages
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv binutils
COPY pyproject.toml README.md LICENSE /src/
COPY charrnn /src/charrnn
COPY checkpoints/places.safetensors checkpoints/english.safetensors /src/checkpoints/
COPY docs/man /src/docs/man
RUN python3 -m venv /opt/charrnn && /opt/charrnn/bin/pip install --no-cache-dir --no-compile /src
# What is not needed to run: installers, tests of libraries, symbols, lexers of an unused highlighter. Byte code is
# made for what each start imports.
RUN cd /opt/charrnn/lib/python3.11/site-packages && \
    rm -rf pip pip-* setuptools setuptools-* _distutils_hack && \
    find . -depth -type d -name tests -exec rm -rf {} + && \
    find pygments/lexers -name '*.py' ! -name '_*' -delete && \
    strip --strip-unneeded llvmlite/binding/libllvmlite.so && \
    python3 -m compileall -q charrnn llvmlite numba numpy rich typer

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* && \
    mkdir -m 1777 /cache /work
COPY --from=packages /opt/charrnn /opt/charrnn
# Kernels are compiled for the CPU at hand: a volume at /cache keeps them from one run to the next.
ENV CHARRNN_CACHE_DIR=/cache
WORKDIR /work
USER 1000:1000
ENTRYPOINT ["/opt/charrnn/bin/charrnn"]
