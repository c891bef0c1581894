"""PyJWT's side of the interoperability tests; `interop.rs` calls it, one command a run."""

import base64
import hashlib
import json
import sys
import urllib.error
import urllib.request

try:
    import jwt
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
except ImportError as missing:
    sys.exit(f"{missing}: run .ci/test, which installs PyJWT and sets AUTH_GATEWAY_PYTHON")

EXPECTED = {"audience": "interop", "issuer": "https://gw.test"}
REQUIRED = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "type", "username", "roles"]


def check(token, key, algorithm, token_type):
    claims = jwt.decode(token, key, algorithms=[algorithm], options={"require": REQUIRED}, **EXPECTED)
    assert (claims["sub"], claims["username"], claims["type"]) == ("1", "alice", token_type), claims
    header = jwt.get_unverified_header(token)
    assert header["typ"] == {"access": "at+jwt", "refresh": "rt+jwt"}[token_type], header


def secret(key, access, refresh):
    check(access, key, "HS256", "access")
    check(refresh, key, "HS256", "refresh")
    assert "kid" not in jwt.get_unverified_header(access)


def jwks(algorithm, url, access, refresh):
    client = jwt.PyJWKClient(url + "/.well-known/jwks.json")
    for token, token_type in ((access, "access"), (refresh, "refresh")):
        check(token, client.get_signing_key_from_jwt(token).key, algorithm, token_type)


def status(url, token):
    request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def parts(token):
    claims = jwt.decode(token, options={"verify_signature": False})
    header = jwt.get_unverified_header(token)
    return header, claims


def sign(algorithm, key_file, url, access):
    key = open(key_file).read()
    header, claims = parts(access)
    extra = {name: header[name] for name in ("typ", "kid") if name in header}
    claims["jti"] = "made-by-pyjwt"
    assert status(url, jwt.encode(claims, key, algorithm, headers=extra)) == 200
    claims["type"] = "refresh"
    assert status(url, jwt.encode(claims, key, algorithm, headers=extra)) == 401
    claims["type"], claims["aud"] = "access", "another"
    assert status(url, jwt.encode(claims, key, algorithm, headers=extra)) == 401


def padding(key_file, url, access):
    """Signs blocks whose PKCS#1 v1.5 padding is off by a bit here and there (Wycheproof's ModifiedPadding)."""
    numbers = load_pem_private_key(open(key_file, "rb").read(), None).private_numbers()
    modulus, size = numbers.public_numbers.n, 256
    message = access.rsplit(".", 1)[0].encode()
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    digest = prefix + hashlib.sha256(message).digest()
    block = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest

    def token(modified):
        signature = pow(int.from_bytes(modified, "big"), numbers.d, modulus).to_bytes(size, "big")
        return message.decode() + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()

    assert status(url, token(block)) == 200, "the untouched block is a good signature"
    flips = [(place, bit) for place in (1, 2, 3, 50, 100, 150, 203, 204, 205, 206, 207, 215, 220) for bit in (0, 3, 7)]
    tried = 0
    for place, bit in flips:
        modified = bytearray(block)
        modified[place] ^= 1 << bit
        assert status(url, token(bytes(modified))) == 401, (place, bit)
        tried += 1
    # Padding cut short, with the digest moved to the front and rubbish behind it (Bleichenbacher 2006).
    short = b"\x00\x01" + b"\xff" * 8 + b"\x00" + digest
    assert status(url, token(short + b"\x01" * (size - len(short)))) == 401
    print(tried + 1)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    {"secret": secret, "jwks": jwks, "sign": sign, "padding": padding}[command](*arguments)
