"""Serve a GGUF file with llama.cpp's own server, on a free port: `python llama_cpp.py FILE NAME`.

Prints its address when it is ready, and ends when its standard input does.
"""

from __future__ import annotations

import sys

import xllamacpp


def main(file: str, name: str) -> None:
    """Start, say where, and serve until nobody listens any more."""
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx, params.n_parallel = 4096, 4
    params.cpuparams.n_threads = 1
    params.warmup = False
    params.use_jinja = True
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
