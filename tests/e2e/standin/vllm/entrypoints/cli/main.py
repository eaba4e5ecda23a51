"""`vllm serve MODEL …`, which is `python -m vllm.entrypoints.cli.main serve MODEL …`."""

import sys

from vllm.standin import parse, serve

if __name__ == "__main__":
    command, model, *flags = sys.argv[1:]
    assert command == "serve", command
    serve(parse([f"--model={model}", *flags]))
