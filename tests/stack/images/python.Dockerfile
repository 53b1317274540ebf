# python:3.13-slim as far as a service's Dockerfile can tell: `python` and `pip` on the PATH, free to install into.
FROM debian:trixie-slim
ENV PATH=/usr/local/bin:$PATH LANG=C.UTF-8
RUN apt-get update -q \
 && apt-get install -y -q --no-install-recommends netbase python3 python3-pip python3-venv tzdata \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/lib/python3*/EXTERNALLY-MANAGED \
 && ln -s /usr/bin/python3 /usr/local/bin/python \
 && python -c 'import sys; assert sys.version_info[:2] == (3, 13)'
RUN pip install --no-cache-dir --no-deps --root-user-action=ignore --target /usr/local/lib/poetry-mirror poetry-plugin-pypi-mirror==0.6.5
COPY sitecustomize.py /etc/python3.13/
CMD ["python3"]
