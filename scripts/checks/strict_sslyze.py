"""sslyze, for a door that turns away who names no host. It takes the alert `unrecognized_name` for that
and stumbles over `access_denied`, which is what rustls sends."""

import sys

import nassl
from sslyze.__main__ import main
from sslyze.plugins.certificate_info import implementation

chain_of = implementation.get_certificate_chain


def get_certificate_chain(*words):
    try:
        return chain_of(*words)
    except nassl._nassl.OpenSSLError as error:
        is_named = words[-1]
        if is_named or "access denied" not in error.args[0]:
            raise
        raise nassl._nassl.OpenSSLError("unrecognized name") from error


implementation.get_certificate_chain = get_certificate_chain
sys.exit(main())
