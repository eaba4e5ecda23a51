"""Options on the command line, in the environment and in the ini file."""

from __future__ import annotations

import pytest

from pytest_vllm.settings import OPTIONS
from tests.fake_server import FakeServer
from tests.plugin.conftest import INI, Run

SHOW = """
def test_show(vllm_spec):
    print(f"spec: {vllm_spec.model} {vllm_spec.max_model_len} {vllm_spec.gpus} {vllm_spec.args}")
"""


def test_help_names_every_option(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help", "-p", "no:asyncio").stdout.str()
    for option in OPTIONS:
        assert option.cli in text
        assert option.ini in text
        assert option.env in text


def test_the_command_line_beats_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_MAX_MODEL_LEN", "100")
    run(SHOW, "--vllm-max-model-len=200", "-s").stdout.fnmatch_lines(["*spec: * 200 *"])


def test_the_environment_beats_the_ini_file(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini(f"{INI}\nvllm_max_model_len = 300\n")
    monkeypatch.setenv("VLLM_TEST_MAX_MODEL_LEN", "100")
    run(SHOW, "-s").stdout.fnmatch_lines(["*spec: * 100 *"])


def test_the_ini_file_is_read(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini(f"{INI}\nvllm_max_model_len = 300\nvllm_model = a/b c/d\n")
    result = run(SHOW, "-s")
    result.stdout.fnmatch_lines(["*spec: a/b 300 *", "*spec: c/d 300 *"])


def test_a_models_table_beats_the_ini_file_and_yields_to_the_command_line(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeini(f"{INI}\nvllm_max_model_len = 300\n")
    pytester.makepyprojecttoml(
        '[[tool.pytest-vllm.models]]\nid = "a/b"\nmax-model-len = 64\ngpus = 8\nargs = ["--x"]\n'
    )
    result = run(SHOW, "-s", "--vllm-model=a/b", "--vllm-gpus=4", "--vllm-arg=--y")
    result.stdout.fnmatch_lines(["*spec: a/b 64 4 ('--x', '--y')"])


def test_without_a_choice_the_model_is_opt_125m(run: Run) -> None:
    run(SHOW, "-s").stdout.fnmatch_lines(["*spec: facebook/opt-125m *"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--vllm-gpus=two", "--vllm-gpus: 'two' is not a whole number of at least 1"),
        ("--vllm-gpu-util=1.5", "--vllm-gpu-util: '1.5' is not a number above 0 and at most 1"),
        ("--vllm-launcher=podman", "'podman' is not one of auto, docker, process"),
        ("--vllm-url=localhost:8000", "is not an address such as http://127.0.0.1:8000"),
        ("--vllm-env=1X=2", "is not NAME or NAME=VALUE"),
        ("--vllm-arg=--api-key=s3cret", "set VLLM_API_KEY in the environment"),
        ("--vllm-arg=--hf-token=s3cret", "set HF_TOKEN in the environment"),
        ("--vllm-model=./no/such/model", "there is nothing at this path"),
        ("--vllm-arg=--port=9", "--port is chosen by the launcher"),
        ("--vllm-startup-timeout=soon", "is not a time such as 90, 90s, 10m or 1.5h"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(
    run: Run, argument: str, message: str
) -> None:
    result = run(SHOW, argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message.replace('[', '[[]')}*"])


def test_a_key_on_the_command_line_is_not_repeated(run: Run) -> None:
    result = run(SHOW, "--vllm-arg=--api-key=s3cret")
    assert "s3cret" not in result.stderr.str()


def test_an_unknown_key_of_a_models_table_names_the_nearest(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyprojecttoml('[[tool.pytest-vllm.models]]\nid = "a/b"\ngpu_utils = 0.5\n')
    result = run(SHOW, "--vllm-model=a/b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: *model a/b: unknown key 'gpu_utils'; did you mean gpu-util?"]
    )


def test_a_wrong_environment_does_not_disturb_an_unrelated_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    monkeypatch.setenv("VLLM_TEST_GPUS", "two")
    pytester.makepyfile(test_other="def test_it(): ...")
    pytester.runpytest_inprocess("test_other.py").assert_outcomes(passed=1)


def test_the_key_of_a_server_comes_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-123")
    with FakeServer("m", api_key="sk-123") as server:
        source = "def test_it(vllm_client):\n    assert vllm_client.get('/v1/models').is_success\n"
        result = run(source, "--vllm-url", server.url)
    result.assert_outcomes(passed=1)
    assert "sk-123" not in result.stdout.str()


def test_a_path_after_a_space_is_refused_where_it_would_lose_the_ini_file(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("models")
    result = run(SHOW, "--vllm-model", str(elsewhere))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: Write --vllm-model={elsewhere} (with `=`)*"])


def test_a_path_after_an_equals_sign_is_taken(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("models")
    run(SHOW, f"--vllm-model={elsewhere}").assert_outcomes(passed=1)


def test_a_known_answer_model_that_does_not_exist_is_refused_with_those_that_do(run: Run) -> None:
    result = run(SHOW, "--vllm-model=known-answer/bse")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: known-answer/bse: there are known-answer/base, *"])


def test_what_a_running_server_would_ignore_is_refused(run: Run) -> None:
    result = run(SHOW, "--vllm-url=http://127.0.0.1:9", "--vllm-gpus=4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --vllm-gpus has no effect with --vllm-url*"])
