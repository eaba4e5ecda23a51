from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vllm.client.http import make_client
from pytest_vllm.errors import StartFailed
from pytest_vllm.servers import readiness
from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.readiness import Ready, Startup
from pytest_vllm.servers.server import State
from pytest_vllm.spec import ServerSpec
from tests.unit.servers.fakes import (
    Answer,
    FakeHttp,
    FakeInstance,
    FakeTime,
    always,
    in_turn,
)

SPEC = ServerSpec("m")


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(readiness, "time", fake)
    return fake


@pytest.fixture
def instance(http: FakeHttp, tmp_path: Path) -> FakeInstance:
    """A server that is ready at once."""
    return FakeInstance(http.url, tmp_path / "m.log")


@pytest.fixture
def starting(instance: FakeInstance) -> FakeInstance:
    """A server that starts for ever, unless the test gives it its address."""
    instance.url = None
    return instance


class Wait:
    """Waits for an instance, and keeps what is told meanwhile."""

    def __init__(self, log_dir: Path) -> None:
        self.policy = LaunchPolicy("run", log_dir, startup_timeout_s=3600, stall_timeout_s=600)
        self.told: list[str] = []

    def __call__(
        self, instance: FakeInstance, spec: ServerSpec = SPEC, download: Path | None = None
    ) -> Ready:
        startup = Startup(instance, spec, self.policy, self.told.append, download)
        return startup.wait(make_client)

    def fails(
        self, instance: FakeInstance, spec: ServerSpec = SPEC, download: Path | None = None
    ) -> str:
        """The report of a start that must fail."""
        with pytest.raises(StartFailed) as caught:
            self(instance, spec, download)
        return str(caught.value)


@pytest.fixture
def wait(tmp_path: Path) -> Wait:
    return Wait(tmp_path)


def external(http: FakeHttp, model: str = "") -> ServerSpec:
    return ServerSpec(model, launcher="external", url=http.url)


def after(polls: int, act: Callable[[], None]) -> Callable[[], None]:
    """A function that acts once, when it is called for the n-th time."""
    left = iter(range(polls))

    def count() -> None:
        if next(left, None) == polls - 1:
            act()

    return count


# --- ready -------------------------------------------------------------------------------------


def test_a_ready_server_is_known_by_address_and_model(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    ready = wait(instance)
    assert (ready.base_url, ready.model, ready.notes) == (http.url, "m", ())


def test_a_server_without_an_address_is_not_ready_yet(
    wait: Wait, starting: FakeInstance, http: FakeHttp
) -> None:
    starting.before_poll = after(5, lambda: setattr(starting, "url", http.url))
    assert wait(starting).startup_s == pytest.approx(4 * readiness.POLL_S)


@pytest.mark.parametrize("early", [None, (503, {}), (500, {}), (502, {})], ids=str)
def test_every_other_answer_than_health_means_not_yet(
    wait: Wait, instance: FakeInstance, http: FakeHttp, early: Answer
) -> None:
    http.replies["/health"] = in_turn(early, early, (200, None))
    assert wait(instance).startup_s == pytest.approx(2 * readiness.POLL_S)


def test_a_port_that_nobody_listens_on_means_not_yet(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    instance.url = "http://127.0.0.1:1"
    instance.before_poll = after(3, lambda: setattr(instance, "url", http.url))
    assert wait(instance).base_url == http.url


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_does_not_tell_its_health_is_as_healthy_as_it_can_say(
    wait: Wait, instance: FakeInstance, http: FakeHttp, status: int
) -> None:
    http.replies["/health"] = always(status)
    assert wait(instance).model == "m"


def test_phases_of_the_log_are_told_and_kept_with_their_time(
    wait: Wait, starting: FakeInstance, http: FakeHttp
) -> None:
    starting.write("vLLM API server version 0.32.0")

    def second_line() -> None:
        starting.write("Resolved architecture: OPTForCausalLM")
        starting.url = http.url

    starting.before_poll = after(11, second_line)
    assert wait(starting).phases == (
        ("vLLM 0.32.0 starts", 0.0),
        ("architecture OPTForCausalLM", 0.3),
    )
    assert wait.told == ["vLLM 0.32.0 starts", "architecture OPTForCausalLM"]


# --- it ends while it starts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (State(False, 1), "it ended: exit code 1"),
        (State(False, -11), "it ended: killed by signal 11"),
        (State(False, 137, True), "it ended: killed for lack of memory (OOM), exit code 137"),
    ],
)
def test_a_server_that_ends_is_reported_at_once(
    wait: Wait, starting: FakeInstance, time: FakeTime, end: State, words: str
) -> None:
    starting.write("vLLM API server version 0.32.0")
    starting.before_poll = after(1, lambda: setattr(starting, "end", end))
    first_line = wait.fails(starting).splitlines()[0]
    assert first_line == (f"m did not start: {words} (after 0 s in phase “vLLM 0.32.0 starts”)")
    assert time.now == 1000 + readiness.POLL_S


def test_the_report_has_evidence_server_log_and_its_end(wait: Wait, starting: FakeInstance) -> None:
    starting.write("INFO one", "", "(EngineCore pid=9) ERROR [core.py:1] ValueError: two")
    starting.end = State(False, 1)
    report = wait.fails(starting, replace(SPEC, image="vllm:v1"))
    assert report.splitlines()[1:] == [
        "  cause     The log names an error that no rule knows.",
        "  evidence  ValueError: two",
        "  do        Search for this line in vLLM's issues "
        "(https://github.com/vllm-project/vllm/issues); --vllm-env VLLM_LOGGING_LEVEL=DEBUG "
        "(docker run -e VLLM_LOGGING_LEVEL=DEBUG) makes the server say more.",
        "  server    fake server, image vllm:v1",
        f"  log       {starting.log_path}",
        "",
        "The log ends with:",
        "  | INFO one",
        "  | (EngineCore pid=9) ERROR [core.py:1] ValueError: two",
    ]


def test_a_server_that_ends_before_its_first_line_is_reported_too(
    wait: Wait, starting: FakeInstance
) -> None:
    starting.end = State(False, 127)
    assert wait.fails(starting).startswith("m did not start: it ended: exit code 127 (after 0 s)")


# --- it takes too long -------------------------------------------------------------------------


def test_a_start_without_a_new_line_is_a_stall(
    wait: Wait, starting: FakeInstance, time: FakeTime
) -> None:
    wait.policy = replace(wait.policy, stall_timeout_s=2)
    starting.write("vLLM API server version 0.32.0")
    report = wait.fails(starting)
    assert "it stalled: no new log line and no download for 2 s (after 2 s" in report
    assert "allow more with --vllm-stall-timeout" in report
    assert time.now == pytest.approx(1002, abs=2 * readiness.POLL_S)


@pytest.mark.parametrize("step", ["a line\n", "\r 10%"], ids=["line", "progress bar"])
def test_whatever_moves_in_the_log_is_no_stall(
    wait: Wait, starting: FakeInstance, http: FakeHttp, time: FakeTime, step: str
) -> None:
    wait.policy = replace(wait.policy, stall_timeout_s=2)
    log = starting.log_path
    assert log is not None

    def work() -> None:
        with log.open("a", newline="") as file:
            file.write(step)
        starting.url = http.url if time.now > 1005 else None

    starting.before_poll = work
    assert wait(starting).startup_s > 5


def test_a_download_that_grows_is_no_stall(
    wait: Wait, starting: FakeInstance, http: FakeHttp, time: FakeTime, tmp_path: Path
) -> None:
    wait.policy = replace(wait.policy, stall_timeout_s=11)
    blobs = tmp_path / "models--m/blobs"
    blobs.mkdir(parents=True)

    def work() -> None:
        (blobs / "1f3a.incomplete").write_bytes(b"x" * int(time.now))
        starting.url = http.url if time.now > 1030 else None

    starting.before_poll = work
    assert wait(starting, download=tmp_path / "models--m").startup_s > 30


def test_a_download_is_only_looked_at_every_five_seconds(
    wait: Wait, starting: FakeInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def size(folder: Path) -> int:
        looks.append(folder)
        return len(looks)

    monkeypatch.setattr(readiness, "_size", size)
    wait.policy = replace(wait.policy, startup_timeout_s=21)
    wait.fails(starting, download=tmp_path)
    assert looks == [tmp_path] * 5


def test_a_download_that_stopped_is_a_stall(
    wait: Wait, starting: FakeInstance, tmp_path: Path
) -> None:
    wait.policy = replace(wait.policy, stall_timeout_s=7)
    (tmp_path / "1f3a.incomplete").write_bytes(b"x")
    assert "it stalled" in wait.fails(starting, download=tmp_path)


def test_a_start_whose_log_still_moves_at_the_limit_may_be_allowed_more(
    wait: Wait, starting: FakeInstance
) -> None:
    wait.policy = replace(wait.policy, startup_timeout_s=3)
    starting.before_poll = lambda: starting.write("INFO compiling")
    report = wait.fails(starting)
    assert "it was not ready after 3 s" in report
    assert "Its log was still moving: allow more with --vllm-startup-timeout." in report


def test_a_start_that_never_logged_a_line_is_not_said_to_move(
    wait: Wait, starting: FakeInstance
) -> None:
    wait.policy = replace(wait.policy, startup_timeout_s=3)
    assert "moving" not in wait.fails(starting)


# --- is it the right one? ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "serves"),
    [
        ((200, {"data": [{"id": "x"}, {"id": "y"}]}), "x, y"),
        ((200, {"data": []}), "no model"),
        ((200, ["strange"]), "no model"),
        ((500, {}), "no model"),
        (None, "no model"),
    ],
    ids=str,
)
def test_another_server_at_our_address_is_a_failed_start(
    wait: Wait, instance: FakeInstance, http: FakeHttp, models: Answer, serves: str
) -> None:
    http.replies["/v1/models"] = lambda: models
    report = wait.fails(instance)
    assert f"another server answered: it serves {serves}, not m" in report


def test_a_server_of_ours_is_asked_by_the_name_that_the_user_gave_it(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    http.replies["/v1/models"] = always(200, {"data": [{"id": "other"}, {"id": "mine"}]})
    spec = replace(SPEC, args=("--served-model-name=mine",))
    assert wait(instance, spec).model == "mine"


def test_a_running_server_is_taken_with_the_model_that_it_serves(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    assert wait(instance, external(http)).model == "m"


def test_a_running_server_may_serve_a_name_that_it_does_not_list(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    ready = wait(instance, external(http, "alias"))
    assert (ready.model, ready.notes) == ("alias", ("/v1/models does not list alias",))


def test_a_running_server_that_names_no_model_needs_the_users_word(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    http.replies["/v1/models"] = always(404)
    report = wait.fails(instance, external(http))
    assert "it does not say which model it serves" in report
    assert "Name it with --vllm-model." in report


def test_a_url_where_nobody_is_fails_at_once_with_a_command_to_try(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    instance.end = State(False)
    report = wait.fails(instance, external(http))
    assert report.startswith(f"{http.url} did not start: nothing accepts connections there")
    assert f"  try       curl -sS {http.url}/v1/models" in report


def test_a_running_server_that_stays_unhealthy_is_given_up_soon(
    wait: Wait, instance: FakeInstance, http: FakeHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "EXTERNAL_LIMIT_S", 1.0)
    instance.log_path = None
    http.replies["/health"] = always(503)
    assert "it was not ready after 1 s" in wait.fails(instance, external(http))


# --- the first token ---------------------------------------------------------------------------


def test_one_token_of_the_model_is_asked_for(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    wait(instance)
    assert http.bodies["/v1/completions"] == {"model": "m", "prompt": "Hi", "max_tokens": 1}


def test_a_refused_first_token_is_for_the_tests_to_judge(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    http.replies["/v1/completions"] = always(404, {"detail": "no completions here"})
    ready = wait(instance)
    assert ready.notes == (
        'the first completion was answered with 404: {"detail": "no completions here"}',
    )


def test_a_refusal_costs_no_time(wait: Wait, instance: FakeInstance, http: FakeHttp) -> None:
    http.replies["/v1/completions"] = always(400)
    assert wait(instance).startup_s == 0


def test_an_error_of_a_server_that_lives_on_is_for_the_tests_to_judge(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    http.replies["/v1/completions"] = always(500)
    assert wait(instance).notes == ("the first completion was answered with 500: null",)


def test_an_engine_that_dies_moments_after_its_error_is_a_failed_start(
    wait: Wait,
    instance: FakeInstance,
    http: FakeHttp,
    time: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    http.replies["/v1/completions"] = always(500)

    def sleep(seconds: float) -> None:
        time.now += seconds
        if time.now > 1000.5:
            instance.end = State(False, 1)

    monkeypatch.setattr(time, "sleep", sleep)
    assert "it ended during its first generation: exit code 1" in wait.fails(instance)


def test_a_server_that_drops_its_first_request_is_a_failed_start(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    http.replies["/v1/completions"] = lambda: None
    assert "it was healthy and then failed its first generation" in wait.fails(instance)


def test_a_server_that_dies_of_its_first_request_is_reported_with_its_end(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    def die() -> Answer:
        instance.write("Starting vLLM server on http://127.0.0.1:8000")
        instance.end = State(False, -11)
        return None

    http.replies["/v1/completions"] = die
    assert wait.fails(instance).splitlines()[0] == (
        "m did not start: it ended during its first generation: killed by signal 11 "
        "(after 0 s in phase “HTTP server starts”)"
    )


def test_a_first_token_that_never_comes_is_given_up_after_the_stall_limit(
    wait: Wait, instance: FakeInstance, http: FakeHttp
) -> None:
    wait.policy = replace(wait.policy, stall_timeout_s=0.05)
    over = threading.Event()

    def hang() -> Answer:
        over.wait(10)
        return None

    http.replies["/v1/completions"] = hang
    report = wait.fails(instance)
    over.set()
    assert "failed its first generation (ReadTimeout" in report
