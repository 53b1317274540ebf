"""What the environment says."""

import os

MODE = os.environ.get("APP_MODE", "production")
DEBUG = MODE == "debug"
