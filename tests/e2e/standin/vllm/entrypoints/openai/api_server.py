"""`python -m vllm.entrypoints.openai.api_server --model MODEL …`, the older way in."""

from vllm.standin import parse, serve

if __name__ == "__main__":
    serve(parse())
