"""The old base image's gunicorn read this."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT', '80')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
loglevel = os.environ.get("LOG_LEVEL", "info")
