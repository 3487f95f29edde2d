# ssl-video in a container. FFmpeg is not needed: PyAV brings its libraries.
#
#   docker build -t ssl-video .                              # CPU
#   docker build -t ssl-video:gpu --build-arg TORCH=gpu .    # CUDA, whose libraries torch's own wheels bring
#   docker run --rm --shm-size 1g -v "$PWD":/data ssl-video pretrain --data videos
#
# --shm-size: reading processes hand clips over in shared memory, of which a container has 64 MB otherwise.

ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH=cpu
ARG EXTRAS=parquet,tensorboard,export,app
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# OpenCV's wheel links to libGL and glib.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*

# torch comes first and alone: an edit of the package does not bring it again.
RUN case "$TORCH" in \
        cpu) pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu ;; \
        gpu) pip install torch torchvision ;; \
        *) echo "TORCH is cpu or gpu, not $TORCH" >&2; exit 1 ;; \
    esac

WORKDIR /opt/ssl-video
COPY pyproject.toml setup.cfg setup.py README.md LICENSE ./
COPY ssl_video ssl_video
COPY pretexts pretexts
COPY eval eval
RUN pip install ".[${EXTRAS}]" && ssl-video doctor

# Copies of videos and scans are kept here: mount a folder over it to keep them between runs.
ENV SSL_VIDEO_CACHE=/cache
RUN mkdir -p /cache /data && chmod 1777 /cache /data
VOLUME /cache
WORKDIR /data
ENTRYPOINT ["ssl-video"]
CMD ["--help"]
