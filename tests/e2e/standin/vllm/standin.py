"""The stand-in's start, its answers and its faults."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULT, _, VALUE = os.environ.get("STANDIN", "").partition(":")

_NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide "
    "a chat template if the tokenizer does not define one."
)
_NO_MEMORY = (
    "ValueError: Free memory on device cuda:0 (164.76/191.98 GiB) on startup is less than desired "
    "GPU memory utilization (0.92, 176.62 GiB). Decrease GPU memory utilization or reduce GPU "
    "memory used by other processes."
)


def parse(words=None):
    """Read the flags that matter; vLLM has three hundred more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.92)
    return parser.parse_known_args(words)[0]


def serve(options):
    """Start like vLLM, and serve until somebody ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN if FAULT == "ignore_sigterm" else _stop)
    _log("vLLM API server version 0.32.0")
    if FAULT == "stall":
        threading.Event().wait()
    _log("Resolved architecture: OPTForCausalLM")
    engine = _start_engine()
    _load(engine.pid)
    if FAULT == "exit" or (FAULT == "busy_gpu" and options.gpu_memory_utilization > 0.858):
        _log(_NO_MEMORY, f"EngineCore pid={engine.pid}", "ERROR")
        engine.kill()
        print("RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
        sys.exit(int(VALUE or 1))
    server = _Server((options.host, options.port), _Handler)
    server.model = options.served_model_name or options.model
    _log(f"Starting vLLM server on http://{options.host}:{server.server_port}")
    _log("Application startup complete.")
    server.serve_forever()


def _start_engine():
    """The child process: it holds nothing, but it must be gone when the server is."""
    return subprocess.Popen(["sleep", "600"], start_new_session=FAULT == "stray")


def _load(pid):
    engine = f"EngineCore pid={pid}"
    _log("Initializing a V1 LLM engine (v0.32.0) with config: …", engine)
    _log("Starting to load model …", engine)
    if FAULT == "slow":
        time.sleep(float(VALUE))
    for percent in (0, 100):
        print(f"\rLoading safetensors checkpoint shards: {percent:3}% Completed | 0/1", flush=True)
    _log("Loading weights took 0.10 seconds", engine)
    _log("CPU KV cache size: 2,097,152 tokens", engine)
    _log("init engine (profile, create kv cache, warmup model) took 0.20 s", engine)


def _log(text, process=None, level="INFO"):
    prefix = f"({process or f'APIServer pid={os.getpid()}'})"
    print(f"{prefix} {level} 11-23 04:00:00 [standin.py:1] {text}", flush=True)


def _stop(signum, frame):
    """End at once and leave the child behind: whoever started us must see to it."""
    os._exit(0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    model = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self):
        model = "somebody/else" if FAULT == "wrong_model" else self.server.model
        pages = {
            "/health": None,
            "/version": {"version": "0.32.0"},
            "/v1/models": {"object": "list", "data": [{"id": model, "object": "model"}]},
            "/openapi.json": {
                "paths": {"/tokenize": {"post": {}}, "/v1/completions": {"post": {}}}
            },
        }
        if self.path in pages:
            self._answer(200, pages[self.path])
        else:
            self._answer(404, {"detail": "Not Found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/completions":
            self._complete(body)
        elif self.path == "/tokenize" and "messages" in body:
            self._answer(400, {"error": {"message": _NO_TEMPLATE, "code": 400}})
        elif self.path == "/tokenize":
            self._answer(200, {"count": 1, "max_model_len": 2048, "tokens": [5]})
        else:
            self._answer(404, {"detail": "Not Found"})

    def _complete(self, body):
        if FAULT == "crash_on_first_completion":
            os._exit(70)
        if FAULT == "die_after_error":
            self._answer(500, {"error": {"message": "EngineCore encountered an issue."}})
            threading.Timer(0.2, os._exit, [71]).start()
            return
        choice = {"index": 0, "text": " a", "finish_reason": "length", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "cmpl-1", "object": "text_completion", "created": 1, "usage": usage}
        self._answer(200, answer | {"model": body["model"], "choices": [choice]})

    def _answer(self, status, value):
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *words):
        _log(format % words)
