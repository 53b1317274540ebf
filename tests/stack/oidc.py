"""GitHub's OIDC token endpoint, and the issuer behind it, for tests.

GET /token?audience=A with `Authorization: bearer TOKEN` answers {"value": JWT}, as the URL in
ACTIONS_ID_TOKEN_REQUEST_URL does in a job with `id-token: write`. Other query parameters set claims of the token:
/token?audience=A&sub=repo:o/r:environment:staging; `expires=-60` makes an expired one; `status=500` fails the request.
"""

import argparse
import base64
import json
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEY_ID = uuid.uuid4().hex


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def integer(number):
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def jwks():
    numbers = KEY.public_key().public_numbers()
    return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID, "n": integer(numbers.n), "e": integer(numbers.e)}]}


def token(issuer, audience, claims):
    now = int(time.time())
    payload = {
        "iss": issuer,
        "aud": audience,
        "sub": "repo:clinicult/patients:ref:refs/heads/main",
        "repository": "clinicult/patients",
        "repository_owner": "clinicult",
        "ref": "refs/heads/main",
        "event_name": "push",
        "jti": str(uuid.uuid4()),
        "iat": now,
        "nbf": now - 300,
        "exp": now + int(claims.pop("expires", 300)),
        **claims,
    }
    head = {"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (head, payload))
    return f"{signed}.{base64url(KEY.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def handler(issuer, bearer):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            if url.path == "/.well-known/openid-configuration":
                return self.answer(200, {"issuer": issuer, "jwks_uri": f"{issuer}/jwks", "id_token_signing_alg_values_supported": ["RS256"]})
            if url.path == "/jwks":
                return self.answer(200, jwks())
            if url.path != "/token":
                return self.answer(404, {"message": "not found"})
            scheme, _, presented = self.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or presented != bearer:
                return self.answer(401, {"message": "the request token is missing or wrong"})
            if (status := int(query.pop("status", 200))) != 200:
                return self.answer(status, {"message": "as the test asked"})
            query.pop("api-version", None)  # GitHub's URL carries it already, which is why clients append `&audience=`
            audience = query.pop("audience", "https://github.com/clinicult")
            return self.answer(200, {"value": token(issuer, audience, query)})

        def answer(self, status, body):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bind", action="append", required=True)
    parser.add_argument("--bearer", required=True, help="what ACTIONS_ID_TOKEN_REQUEST_TOKEN holds")
    args = parser.parse_args()
    servers = [ThreadingHTTPServer((address, args.port), handler(f"http://localhost:{args.port}", args.bearer)) for address in args.bind]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
