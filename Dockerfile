# mmpt serve in a container: a checkpoint, or a run, is mounted at /model.
#
#   docker build -t mmpt .                                   # for CPUs
#   docker build -t mmpt:cuda --build-arg DEVICE=cuda .      # for NVIDIA GPUs: torch brings CUDA, the host its driver
#   docker run -p 8000:8000 -e MMPT_TOKEN=… -v "$PWD/runs/quickstart:/model:ro" mmpt
FROM python:3.11-slim AS build

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/mmpt
ENV PATH=/opt/mmpt/bin:$PATH
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
# torch first, in a layer of its own: it is most of the image and changes least. That of PyPI is the one with CUDA.
RUN set -eu; \
    case "$DEVICE" in \
      cpu) index=https://download.pytorch.org/whl/cpu ;; \
      cuda) index=https://pypi.org/simple ;; \
      *) echo "DEVICE=$DEVICE: expected cpu or cuda" >&2; exit 2 ;; \
    esac; \
    grep -E '^(torch|torchvision|torchaudio)==' constraints.txt > torch.txt; \
    pip install --index-url "$index" -r torch.txt
COPY mmpt mmpt
RUN pip install -c constraints.txt '.[serve]'

FROM python:3.11-slim

RUN useradd --create-home --uid 10001 mmpt
COPY --from=build /opt/mmpt /opt/mmpt
ENV PATH=/opt/mmpt/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/mmpt
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["mmpt", "serve"]
CMD ["/model", "--host", "0.0.0.0", "--port", "8000"]
