# Two images from one file: `docker build --target cpu .` and `docker build --target cuda .`; see deploy/containers.md.
ARG DEBIAN_IMAGE=debian:12-slim
# The release of CUDA that tools/install has, too.
ARG CUDA_BUILD_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${DEBIAN_IMAGE} AS demo
COPY models/demo /models/demo
COPY LICENSE /usr/local/share/sluice/LICENSE
# Whatever the umask of the checkout was.
RUN chmod -R a=rX,u+w /models /usr/local/share/sluice

FROM ${DEBIAN_IMAGE} AS build-cpu
WORKDIR /src
COPY tools/install tools/find_nvcc tools/
RUN tools/install
COPY CMakeLists.txt ./
COPY tools tools/
COPY proto proto/
COPY kernels kernels/
COPY engine engine/
COPY server server/
COPY client client/
ARG SLUICE_COMMIT=unknown
RUN tools/build --no-cuda -DSLUICE_TESTS=OFF "-DSLUICE_COMMIT=${SLUICE_COMMIT}" programs \
  && cmake --install build --prefix /out/usr/local --strip \
  && tools/runtime_packages /out/usr/local >/out/packages

FROM ${CUDA_BUILD_IMAGE} AS build-cuda
WORKDIR /src
COPY tools/install tools/find_nvcc tools/
# Takes the base's CUDA compiler; one from PyPI, if the base has none.
RUN tools/install --cuda
COPY CMakeLists.txt ./
COPY tools tools/
COPY proto proto/
COPY kernels kernels/
COPY engine engine/
COPY server server/
COPY client client/
ARG SLUICE_COMMIT=unknown
ARG CUDA_ARCHITECTURES=90a-real
RUN tools/build -DSLUICE_TESTS=OFF -DSLUICE_CUDA=ON "-DSLUICE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}" \
    "-DSLUICE_COMMIT=${SLUICE_COMMIT}" programs \
  && cmake --install build --prefix /out/usr/local --strip \
  && tools/runtime_packages /out/usr/local >/out/packages

# From here on the two images are alike, but for where their files come from and for the GPU's settings.
FROM ${DEBIAN_IMAGE} AS cpu
COPY --from=build-cpu /out/packages /usr/local/share/sluice/packages
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive xargs --arg-file=/usr/local/share/sluice/packages \
    apt-get install -y --no-install-recommends --no-upgrade \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
  && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=demo /usr/local/share/sluice/LICENSE /usr/local/share/sluice/LICENSE
COPY --from=demo /models /models
COPY --from=build-cpu /out/usr/local /usr/local
# Fails the build if a library is missing.
RUN ldconfig && sluice-server --version && sluice --version
ARG SLUICE_COMMIT=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="gRPC server for linear-attention language models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${SLUICE_COMMIT}"
USER 65532:65532
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["sluice", "health"]
ENTRYPOINT ["/usr/local/bin/sluice-server"]
CMD ["--model=/models/demo", "--listen=0.0.0.0:50051", "--metrics-listen=0.0.0.0:9464"]

FROM ${CUDA_IMAGE} AS cuda
COPY --from=build-cuda /out/packages /usr/local/share/sluice/packages
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive xargs --arg-file=/usr/local/share/sluice/packages \
    apt-get install -y --no-install-recommends --no-upgrade \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
  && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=demo /usr/local/share/sluice/LICENSE /usr/local/share/sluice/LICENSE
COPY --from=demo /models /models
COPY --from=build-cuda /out/usr/local /usr/local
# Fails the build if a library is missing.
RUN ldconfig && sluice-server --version && sluice --version
ARG SLUICE_COMMIT=unknown
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="gRPC server for linear-attention language models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${SLUICE_COMMIT}"
# What the container toolkit mounts of the driver.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 CMD ["sluice", "health"]
ENTRYPOINT ["/usr/local/bin/sluice-server"]
CMD ["--model=/models/demo", "--listen=0.0.0.0:50051", "--metrics-listen=0.0.0.0:9464"]
