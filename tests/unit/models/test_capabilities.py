"""Base or chat, and what a server can do, asked of a small real HTTP server with set answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pytest_vllm.errors import SettingsError
from pytest_vllm.models import capabilities
from pytest_vllm.models.capabilities import Capabilities, Verdict, decide, probe

CHAT, BASE, UNCLEAR = "somebody/Nightjar-8B-Instruct", "facebook/opt-125m", "somebody/Nightjar-8B"
NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide "
    "a chat template if the tokenizer does not define one."
)
REFUSAL = (400, {"error": {"message": NO_TEMPLATE, "type": "BadRequestError", "code": 400}})
TOKENS = (200, {"count": 3, "max_model_len": 2048, "tokens": [1, 2, 3]})
ONE_TOKEN = (200, {"choices": [{"message": {"content": "x"}}]})
NOT_FOUND = (404, {"detail": "Not Found"})

Reply = tuple[int, Any]


@dataclass
class Script:
    """Answers by "METHOD /path"; 404 for all else. Status 0 closes the connection unanswered."""

    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    script: Script
    wbufsize = -1  # one packet for an answer: two would wait for each other

    def _answer(self) -> None:
        question = f"{self.command} {self.path}"
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.script.asked.append(question)
        self.script.bodies.append(json.loads(sent) if sent else None)
        status, body = self.script.replies.get(question, NOT_FOUND)
        if status == 0:
            self.close_connection = True
            return
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def listening() -> Iterator[tuple[type[_Handler], str]]:
    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Handler, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def script(listening: tuple[type[_Handler], str]) -> Script:
    handler, url = listening
    handler.script = Script(url=url)
    return handler.script


@pytest.fixture
def client(script: Script) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=script.url, timeout=5, trust_env=False) as client:
        yield client


def files(cache: Path, model: str, **content: object) -> None:
    """Put files of a model into a cache: `tokenizer_config={…}` and so on."""
    entry = cache / ("models--" + model.replace("/", "--"))
    (entry / "snapshots" / "a1").mkdir(parents=True)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("a1", encoding="utf-8")
    for name, value in content.items():
        (entry / "snapshots" / "a1" / f"{name}.json").write_text(
            json.dumps(value), encoding="utf-8"
        )


def openapi(*endpoints: str) -> Reply:
    """The list of endpoints, as FastAPI publishes it."""
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        method, path = endpoint.split()
        paths.setdefault(path, {})[method.lower()] = {}
    return 200, {"openapi": "3.1.0", "paths": paths}


def vllm() -> dict[str, Reply]:
    """The answers of a vLLM server with a chat model."""
    listed = ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize")
    return {
        "GET /openapi.json": openapi(*(f"POST {path}" for path in listed)),
        "POST /tokenize": TOKENS,
        "GET /version": (200, {"version": "0.32.0"}),
        "GET /metrics": (200, "# TYPE vllm:num_requests_running gauge\n"),
        "GET /docs": (200, "<html></html>"),
        "GET /health": (200, ""),
        "GET /v1/models": (200, {"data": []}),
    }


# Who decides.


def test_the_users_word_comes_first(script: Script, client: httpx.Client) -> None:
    script.replies = {"POST /tokenize": TOKENS}
    verdict = decide(CHAT, user_kind="base", client=client)
    assert (verdict.kind, verdict.decided_by) == ("base", "user")


def test_what_the_server_says_against_the_user_is_noted(
    script: Script, client: httpx.Client
) -> None:
    script.replies = {"POST /tokenize": REFUSAL}
    able = probe(client, UNCLEAR, user_kind="chat")
    assert able.chat.kind == "chat"
    assert any("the user says chat, the server base" in note for note in able.notes)


def test_a_third_kind_is_a_setting_error() -> None:
    with pytest.raises(SettingsError, match="'base' or 'chat', not 'Chat'"):
        decide(CHAT, user_kind="Chat")


def test_tokens_for_messages_mean_chat(script: Script, client: httpx.Client) -> None:
    script.replies = {"POST /tokenize": TOKENS}
    verdict = decide(BASE, client=client)
    assert (verdict.kind, verdict.decided_by) == ("chat", "server")
    assert verdict.evidence == "POST /tokenize (messages): 200"


def test_the_refusal_of_messages_means_base(script: Script, client: httpx.Client) -> None:
    script.replies = {"POST /tokenize": REFUSAL}
    verdict = decide(CHAT, client=client)
    assert (verdict.kind, verdict.decided_by) == ("base", "server")
    assert "400 As of transformers v4.44" in verdict.evidence


def test_who_answers_tokenize_is_not_asked_to_generate(
    script: Script, client: httpx.Client
) -> None:
    script.replies = {"POST /tokenize": REFUSAL}
    decide(CHAT, client=client)
    assert script.asked == ["POST /tokenize"]


@pytest.mark.parametrize(
    "tokenize",
    [
        pytest.param((404, {"detail": "Not Found"}), id="unknown"),
        pytest.param((405, {"detail": "Method Not Allowed"}), id="not-allowed"),
        pytest.param((422, {"detail": [{"loc": ["body", "prompt"]}]}), id="sglang"),
        pytest.param((200, {"tokens": []}), id="llama.cpp"),
        pytest.param((200, "<html>"), id="a-page"),
    ],
)
@pytest.mark.parametrize(("reply", "kind"), [(ONE_TOKEN, "chat"), (REFUSAL, "base")])
def test_who_does_not_tokenize_messages_gets_one_chat_request(
    script: Script, client: httpx.Client, tokenize: Reply, reply: Reply, kind: str
) -> None:
    script.replies = {"POST /tokenize": tokenize, "POST /v1/chat/completions": reply}
    verdict = decide(UNCLEAR, client=client)
    assert (verdict.kind, verdict.decided_by) == (kind, "server")
    assert script.bodies[-1]["max_tokens"] == 1


@pytest.mark.parametrize("status", [0, 401, 408, 429, 500, 503])
def test_an_error_is_no_answer(script: Script, client: httpx.Client, status: int) -> None:
    script.replies = {"POST /tokenize": (status, {"error": "no"})}
    verdict = decide(CHAT, client=client)
    assert (verdict.kind, verdict.decided_by) == ("chat", "name")
    assert script.asked == ["POST /tokenize"]


def test_a_crash_that_mentions_chat_templates_is_no_refusal(
    script: Script, client: httpx.Client
) -> None:
    script.replies = {"POST /tokenize": (500, NO_TEMPLATE)}
    assert decide(UNCLEAR, client=client).kind == "unknown"


def test_an_answer_without_choices_is_no_answer(script: Script, client: httpx.Client) -> None:
    script.replies = {"POST /v1/chat/completions": (200, "<html>welcome</html>")}
    assert decide(UNCLEAR, client=client).decided_by == "nobody"


def test_the_error_is_kept_as_a_note(script: Script, client: httpx.Client) -> None:
    script.replies = vllm() | {"POST /tokenize": (500, {"error": {"message": "it broke"}})}
    able = probe(client, CHAT)
    assert able.notes == (
        "base or chat: the server did not say (POST /tokenize (messages): 500 it broke)",
    )


def test_the_server_comes_before_the_files(
    script: Script, client: httpx.Client, tmp_path: Path
) -> None:
    files(tmp_path, BASE, tokenizer_config={"chat_template": "{{ x }}"})
    script.replies = {"POST /tokenize": REFUSAL}
    assert decide(BASE, cache_dir=tmp_path, client=client).decided_by == "server"


def test_the_files_come_before_the_name(tmp_path: Path) -> None:
    files(tmp_path, CHAT, tokenizer_config={"tokenizer_class": "T"})
    verdict = decide(CHAT, cache_dir=tmp_path)
    assert (verdict.kind, verdict.decided_by) == ("base", "files")


def test_the_name_is_asked_last(tmp_path: Path) -> None:
    assert decide(CHAT, cache_dir=tmp_path) == Verdict(
        "chat", "name", "name part 'Instruct'", tuned="chat"
    )


def test_when_nobody_knows_it_is_unknown() -> None:
    verdict = decide(UNCLEAR)
    assert (verdict.kind, verdict.decided_by) == ("unknown", "nobody")


# Files.


def test_a_template_in_the_files_means_chat(tmp_path: Path) -> None:
    files(tmp_path, UNCLEAR, tokenizer_config={"chat_template": "{{ x }}"})
    verdict = capabilities.by_files(UNCLEAR, tmp_path)
    assert verdict == Verdict(
        "chat", "files", "chat template in tokenizer_config.json", tuned="chat"
    )


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen3-8B-Base", "Qwen/Qwen2.5-0.5B", "google/gemma-3-4b-pt", "x/y-pretrained"]
)
def test_a_base_name_vetoes_the_template(tmp_path: Path, model: str) -> None:
    files(tmp_path, model, tokenizer_config={"chat_template": "{{ x }}"})
    verdict = capabilities.by_files(model, tmp_path)
    assert verdict is not None
    assert (verdict.kind, verdict.tuned) == ("base", "base")
    assert verdict.evidence.startswith("chat template in tokenizer_config.json, but ")


def test_a_template_in_a_directory_called_like_a_base_model_means_chat(tmp_path: Path) -> None:
    (local := tmp_path / "Llama-3.1-8B").mkdir()
    (local / "chat_template.jinja").write_text("{{ x }}", encoding="utf-8")
    verdict = capabilities.by_files(str(local), None)
    assert verdict is not None
    assert (verdict.kind, verdict.tuned) == ("chat", "unknown")


def test_files_without_a_tokenizer_say_nothing(tmp_path: Path) -> None:
    files(tmp_path, CHAT, config={"model_type": "llama"})
    assert capabilities.by_files(CHAT, tmp_path) is None


def test_a_model_that_vllm_renders_itself_can_chat(tmp_path: Path) -> None:
    model = "deepseek-ai/DeepSeek-V3.2"
    files(
        tmp_path, model, config={"architectures": ["DeepseekV32ForCausalLM"]}, tokenizer_config={}
    )
    verdict = capabilities.by_files(model, tmp_path)
    assert verdict is not None
    assert verdict.kind == "chat"


# Two facts.


def test_a_base_model_that_takes_chat_requests_is_not_tuned(
    script: Script, client: httpx.Client
) -> None:
    script.replies = {"POST /tokenize": TOKENS}
    verdict = decide("Qwen/Qwen2.5-0.5B", client=client)
    assert (verdict.kind, verdict.tuned) == ("chat", "base")


def test_a_tuned_model_without_a_template_cannot_chat(tmp_path: Path) -> None:
    files(tmp_path, "Qwen/Qwen-7B-Chat", tokenizer_config={"tokenizer_class": "QWenTokenizer"})
    verdict = decide("Qwen/Qwen-7B-Chat", cache_dir=tmp_path)
    assert (verdict.kind, verdict.tuned) == ("base", "chat")


def test_where_the_name_is_silent_the_files_say_whether_it_is_tuned(
    script: Script, client: httpx.Client, tmp_path: Path
) -> None:
    files(tmp_path, UNCLEAR, tokenizer_config={"chat_template": "{{ x }}"})
    script.replies = {"POST /tokenize": TOKENS}
    assert decide(UNCLEAR, cache_dir=tmp_path, client=client).tuned == "chat"


# Endpoints and names.


def test_a_healthy_server_gives_its_capabilities_and_no_notes(
    script: Script, client: httpx.Client
) -> None:
    script.replies = vllm()
    able = probe(client, CHAT)
    assert able.names == {
        *("chat", "completions", "tokenize", "detokenize"),
        *("openapi", "version", "metrics", "docs", "health", "models", "generation"),
    }
    assert "POST /v1/completions" in able.endpoints
    assert able.notes == ()


def test_what_the_list_lacks_is_missing_with_the_list_as_evidence(
    script: Script, client: httpx.Client
) -> None:
    script.replies = vllm() | {"POST /v1/responses": (200, {})}
    able = probe(client, CHAT)
    assert not able.has("responses")
    assert able.why_not("responses") == "GET /openapi.json lists no POST /v1/responses"


def test_what_is_no_page_is_missing_with_the_answer_as_evidence(
    script: Script, client: httpx.Client
) -> None:
    script.replies = vllm() | {"GET /metrics": (403, {"detail": "no"})}
    assert probe(client, CHAT).why_not("metrics") == "GET /metrics: 403 no"


def test_a_page_in_place_of_an_answer_is_not_a_capability(
    script: Script, client: httpx.Client
) -> None:
    script.replies = vllm() | {"GET /version": (200, "<html>welcome</html>")}
    assert not probe(client, CHAT).has("version")


def test_a_base_model_lacks_chat_with_the_verdict_as_evidence(
    script: Script, client: httpx.Client
) -> None:
    script.replies = vllm() | {"POST /tokenize": REFUSAL}
    able = probe(client, BASE)
    assert not able.has("chat")
    assert able.why_not("chat").startswith("base model (server: POST /tokenize (messages): 400 As")


def test_an_unknown_kind_leaves_chat_to_be_tried(script: Script, client: httpx.Client) -> None:
    script.replies = vllm() | {"POST /tokenize": (500, "")}
    able = probe(client, UNCLEAR)
    assert able.chat.kind == "unknown"
    assert able.has("chat")


def test_a_missing_list_does_not_mean_no(script: Script, client: httpx.Client) -> None:
    script.replies = {
        "POST /tokenize": (200, {"tokens": []}),
        "POST /v1/chat/completions": ONE_TOKEN,
        "POST /v1/responses": (400, {"error": {"message": "'input' is required"}}),
        "POST /v1/embeddings": (501, {"error": {"message": "start it with --embeddings"}}),
        "POST /rerank": (501, {"error": {"message": "start it with --reranking"}}),
    }
    able = probe(client, UNCLEAR)
    assert {"completions", "chat", "responses"} <= able.names
    assert not able.endpoints
    assert able.why_not("messages") == "POST /v1/messages (empty): 404 Not Found"
    assert able.why_not("embeddings").endswith("501 start it with --embeddings")
    assert able.why_not("rerank").endswith("501 start it with --reranking")
    assert able.why_not("tokenize") == "POST /tokenize: 200, but not as vLLM answers"
    assert able.notes == (
        "no list of endpoints (GET /openapi.json: 404 Not Found): they were tried one by one; "
        "completions are taken for granted",
    )


def test_completions_are_never_tried_for_their_own_sake(
    script: Script, client: httpx.Client
) -> None:
    probe(client, UNCLEAR)
    assert "POST /v1/completions" not in script.asked


@pytest.mark.parametrize("paths", [{}, {"/{path}": {"post": {}}}, {"/v1/{p}": {"post": {}}}, 3])
def test_a_routers_catch_all_is_no_list(
    script: Script, client: httpx.Client, paths: object
) -> None:
    script.replies = {"GET /openapi.json": (200, {"paths": paths})}
    able = probe(client, UNCLEAR)
    assert not able.endpoints
    assert able.has("completions")


def test_embeddings_that_are_listed_and_refused_are_missing(
    script: Script, client: httpx.Client
) -> None:
    refused = (400, {"error": {"message": "The model does not support Embeddings API"}})
    script.replies = {
        "GET /openapi.json": openapi("POST /v1/embeddings", "POST /v1/completions"),
        "POST /v1/embeddings": refused,
    }
    able = probe(client, BASE)
    assert "does not support Embeddings" in able.why_not("embeddings")


def test_embeddings_that_are_served_are_there(script: Script, client: httpx.Client) -> None:
    script.replies = {
        "GET /openapi.json": openapi("POST /v1/embeddings"),
        "POST /v1/embeddings": (200, {"data": []}),
    }
    assert probe(client, "BAAI/bge-m3").has("embeddings")


def test_tools_need_a_server_that_lets_the_model_choose(
    script: Script, client: httpx.Client
) -> None:
    refused = (400, {"error": {"message": '"auto" tool choice requires --tool-call-parser'}})
    script.replies = vllm() | {"POST /v1/chat/completions": refused}
    assert "--tool-call-parser" in probe(client, CHAT).why_not("tools")
    script.replies = vllm() | {"POST /v1/chat/completions": ONE_TOKEN}
    assert probe(client, CHAT).has("tools")


def test_our_own_models_are_a_capability(script: Script, client: httpx.Client) -> None:
    able = probe(client, "known-answer/base")
    assert {"known-answer", "known-answer/base"} <= able.names
    assert able.why_not("known-answer/chat") == "the model served is not known-answer/chat"
    assert probe(client, BASE).why_not("known-answer") == "the model served is not known-answer"


def test_a_capability_that_no_probe_knows_is_said_to_be_one(
    script: Script, client: httpx.Client
) -> None:
    script.replies = vllm()
    able = probe(client, CHAT)
    assert "no probe knows 'embedings', only: chat, " in able.why_not("embedings")
    assert able.why_not("chat") == ""


# Servers that misbehave.


@pytest.mark.parametrize(
    "reply",
    [
        (0, ""),
        (500, "Internal Server Error"),
        (200, "[" * 200_000),
        (400, "[" * 200_000),
        (200, "null"),
        (200, '{"paths": {"/v1/x": null, "/y": {"post": 1}}, "count": [], "choices": 1}'),
        (302, ""),
    ],
)
def test_no_answer_makes_the_probe_fail(script: Script, client: httpx.Client, reply: Reply) -> None:
    everything = ("/openapi.json", "/version", "/metrics", "/docs", "/health", "/v1/models")
    script.replies = {f"GET {path}": reply for path in everything}
    script.replies |= {f"POST {path}": reply for path in ("/tokenize", "/v1/chat/completions")}
    assert isinstance(probe(client, UNCLEAR), Capabilities)


def test_a_server_that_hangs_is_asked_twice_and_no_more(script: Script) -> None:
    calls = []

    def hang(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        raise httpx.ReadTimeout("timed out", request=request)

    with httpx.Client(base_url=script.url, transport=httpx.MockTransport(hang)) as client:
        able = probe(client, CHAT)
    assert calls == ["/openapi.json", "/tokenize"]
    assert able.chat.decided_by == "name"
    assert (
        able.why_not("metrics")
        == "GET /metrics: no answer (not asked: the server was silent twice)"
    )


def test_no_answer_is_waited_for_longer_than_a_minute(script: Script) -> None:
    waits = []

    def answer(request: httpx.Request) -> httpx.Response:
        waits.append(request.extensions["timeout"])
        return httpx.Response(404)

    with httpx.Client(
        base_url=script.url,
        timeout=httpx.Timeout(300, connect=7),
        transport=httpx.MockTransport(answer),
    ) as client:
        probe(client, CHAT)
    assert {(wait["read"], wait["connect"]) for wait in waits} == {(60, 7)}


# Over a border.


def test_capabilities_survive_json(script: Script, client: httpx.Client) -> None:
    script.replies = vllm()
    able = probe(client, CHAT)
    assert Capabilities.from_dict(json.loads(json.dumps(able.as_dict()))) == able
    assert isinstance(hash(able), int)


def test_the_recogniser_of_the_client_is_the_one_that_is_used() -> None:
    from pytest_vllm.client import refusals

    assert capabilities.is_chat_refusal is refusals.is_chat_refusal
    assert capabilities.is_chat_refusal(400, NO_TEMPLATE)
    assert not capabilities.is_chat_refusal(500, NO_TEMPLATE)
    assert not capabilities.is_chat_refusal(400, "max_tokens is too large")
