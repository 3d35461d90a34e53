"""When two requests are the same job: a digest of the params that ignores order, spacing and the attempt."""

import msgspec

_canonical = msgspec.json.Encoder(order="deterministic")


def params_digest(raw: bytes) -> str:
    """sha256, lower-case hex, of `raw` job params without `attempt`, keys sorted.

    Raises msgspec.DecodeError.
    """
    import hashlib  # OpenSSL takes 2 ms to load, and `initialize` needs no digest

    params = msgspec.json.decode(raw)
    if isinstance(params, dict):
        params.pop("attempt", None)
    return hashlib.sha256(_canonical.encode(params)).hexdigest()
