"""A service of the standard library alone, in an image that its team wrote."""

import http.server
import json
import os
import signal
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/", "/ping") else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"mode": os.environ.get("APP_MODE")}).encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
