"""Poetry and pdm do not read /etc/pip.conf, where this image has the machine's certificates and package index. This tells them, in
whatever environment they are installed. Poetry wants PyPI's own API, which a mirror need not have; its plugin does with the standard one."""
import os
import sys

tool = {os.path.basename(word) for word in sys.orig_argv[:2]} & {"poetry", "pdm"}
if tool:
    import configparser

    pip = configparser.ConfigParser(interpolation=None)
    pip.read("/etc/pip.conf")
    index = pip["global"].get("index-url")
    os.environ.setdefault("REQUESTS_CA_BUNDLE", pip["global"]["cert"])
    if index:
        os.environ.setdefault("PDM_PYPI_URL", index)
    if "poetry" in tool:
        from pip._internal.models.index import PyPI

        os.environ.setdefault("POETRY_PYPI_MIRROR_URL", index or PyPI.simple_url)
        sys.path.append("/usr/local/lib/poetry-mirror")
