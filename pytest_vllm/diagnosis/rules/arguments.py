"""What was typed: unknown options, values that cannot be, environment variables, config files."""

from __future__ import annotations

import re

from pytest_vllm.diagnosis.rules.rule import Found, Numbers, Rule, rule

_REMOVED = {
    "--disable-log-requests": "it is the default now (--enable-log-requests turns them on)",
    "--swap-space": "V1 has no swap space",
    "--use-v2-block-manager": "there is no other",
    "--device": "the platform follows from the build",
    "--num-scheduler-steps": "V1 schedules every step",
    "--guided-decoding-backend": "--structured-outputs-config",
    "--worker-use-ray": "--distributed-executor-backend ray",
    "--max-model-length": "--max-model-len",
}


def _arguments(found: Found) -> list[str]:
    return found["args"].split()


def _unknown(found: Found) -> str:
    flags = [word for word in _arguments(found) if word.startswith("-")]
    hints = [
        f"{flag}: {_REMOVED[flag.split('=')[0]]}"
        for flag in flags
        if flag.split("=")[0] in _REMOVED
    ]
    known = f" ({'; '.join(hints)})" if hints else ""
    return (
        f"Drop or correct {' '.join(flags) or found['args']}{known}. vllm serve --help=all lists what this version knows; "
        "a key of a --config file counts as an option too. Flags of vllm serve go behind --vllm-arg=."
    )


def _unknown_numbers(found: Found) -> Numbers:
    words = _arguments(found)
    return {"argument": words[0]} if len(words) == 1 else {"arguments": words}


def _limit(found: Found) -> str:
    value = re.search(r"input_value=([\d.]+)", found.match.string)
    if value and float(value[1]) > 1 and "less than or equal to 1 " in found.match.string + " ":
        number = float(value[1])
        if 1 < number <= 100 and number > 2:
            return f"It is a fraction: {number:g} means {number / 100:g} (--vllm-gpu-util {number / 100:g}; --gpu-memory-utilization {number / 100:g})."
    return "The sentence says which values are allowed; --vllm-arg=--NAME=VALUE (vllm serve --NAME VALUE) and --vllm-gpu-util are where they come from."


def _limit_numbers(found: Found) -> Numbers:
    value = re.search(r"input_value=(-?[\d.]+)", found.match.string)
    if not value:
        return {}
    number = float(value[1])
    percent = (
        {"suggest": number / 100}
        if 2 < number <= 100 and "equal to 1" in found.match.string
        else {}
    )
    return {"value": int(number) if number == int(number) else number, **percent}


def _choice_numbers(found: Found) -> Numbers:
    name = found["argument"].split("/")[-1].strip().lstrip("-").replace("-", "_")
    chosen = re.search(r"invalid (?:choice|\w+ value): '([^']*)'", found["why"])
    return {"argument": found["argument"].strip()} | ({name: chosen[1]} if chosen else {})


RULES: tuple[Rule, ...] = (
    rule(
        "image_entrypoint_args",
        r"error: (?:unrecognized arguments: |argument model_tag: )?(?:.*unrecognized arguments: )(?P<args>(?:serve )?/?[\w.-]+(?:/[\w.-]+)+)\s*$",
        "The image starts the server by itself, and `serve MODEL` was given to it once more.",
        "Give the flags only: docker run IMAGE --model {args}. The plugin (--vllm-model MODEL) looks at the image's entrypoint by itself.",
        lambda f: {"arguments": ["serve", f["args"].removeprefix("serve ")]},
        anywhere=True,
    ),
    rule(
        "cli_argument_unknown",
        r"error: unrecognized arguments: (?P<args>.+)$",
        "vLLM does not know an option: {args}.",
        _unknown,
        _unknown_numbers,
        anywhere=True,
    ),
    rule(
        "cli_argument_unknown",
        r"error: ambiguous option: (?P<args>\S+) could match",
        "vLLM does not know the option {args} (any more).",
        _unknown,
        _unknown_numbers,
        anywhere=True,
    ),
    rule(
        "invalid_argument_value",
        r"error: argument (?P<argument>(?:-\w+/)?(?P<flag>--[\w-]+)[\w/ ,-]*): (?P<why>.+)$",
        "{argument} has a value that it cannot have: {why}",
        "Correct --vllm-arg={flag}=… (vllm serve {flag}); JSON needs double quotes inside and single quotes around: '{\"a\": 1}'.",
        _choice_numbers,
        anywhere=True,
    ),
    rule(
        "invalid_argument_value",
        r"error: (?P<why>(?:the following arguments are required|expected \w+ argument).*)$",
        "The command is incomplete: {why}",
        "Complete it; vllm serve --help=all shows how.",
        anywhere=True,
    ),
    rule(
        "config_file_missing",
        r"(?:config file|config\.ya?ml).*(?:not found|No such file|does not exist)|No such file or directory: '(?P<path>[^']+\.ya?ml)'",
        "The file of --config is not there: {path}.",
        "Mount it into the container (docker run -v {path}:{path}:ro), or correct --vllm-arg=--config=FILE.",
        anywhere=True,
    ),
    rule(
        "config_file_invalid",
        r"yaml\.(?:parser|scanner|constructor)\.\w+Error",
        "The file of --config is no valid YAML.",
        "The lines after this one say where: check brackets, quotes and indentation with python3 -c 'import sys,yaml;yaml.safe_load(open(sys.argv[1]))' FILE.",
        anywhere=True,
    ),
    rule(
        "invalid_environment",
        r"Unknown level: '(?P<level>[^']+)'",
        "VLLM_LOGGING_LEVEL has no level {level}.",
        "--vllm-env VLLM_LOGGING_LEVEL=DEBUG, or INFO, WARNING, ERROR.",
        # logging says it in capitals, whatever was typed.
        lambda f: {"value": f["level"].lower()},
        anywhere=True,
    ),
    rule(
        "invalid_environment",
        r"invalid literal for int\(\) with base 10: '(?P<value>[^']*)'|could not convert string to float: '(?P<text>[^']*)'|Invalid value '(?P<bad>[^']*)' for VLLM_\w+|environment variable \w+ (?:must|should|has)",
        "An environment variable has a value that is no number: {value}{text}.",
        "Numbers without units: --vllm-env VLLM_CPU_KVCACHE_SPACE=4, not 4GB. The traceback names the variable.",
        anywhere=False,
    ),
    rule(
        "invalid_argument_value",
        r"max_num_batched_tokens \((?P<max_num_batched_tokens>\d+)\) must be greater than or equal to max_num_seqs \((?P<max_num_seqs>\d+)\)",
        "--max-num-batched-tokens ({max_num_batched_tokens}) is smaller than --max-num-seqs ({max_num_seqs}).",
        "Raise the first or lower the second: --vllm-arg=--max-num-seqs={max_num_batched_tokens}.",
        anywhere=True,
    ),
    rule(
        "invalid_argument_value",
        r"max_num_batched_tokens \((?P<max_num_batched_tokens>\d+)\) is smaller than max_model_len \((?P<max_model_len>\d+)\)",
        "--max-num-batched-tokens ({max_num_batched_tokens}) is smaller than the context ({max_model_len}).",
        "--vllm-arg=--max-num-batched-tokens={max_model_len}, or --vllm-arg=--enable-chunked-prefill.",
        anywhere=True,
    ),
    rule(
        "invalid_argument_value",
        r"port must be 0-65535",
        "The port is none.",
        "vllm serve --port takes 1 to 65535 (the plugin chooses one by itself).",
        anywhere=True,
    ),
    rule(
        "invalid_argument_value",
        r"--enable-auto-tool-choice requires --tool-call-parser",
        "--enable-auto-tool-choice needs a parser.",
        "--vllm-arg=--tool-call-parser=hermes, or the model's own.",
        anywhere=True,
    ),
    rule(
        "invalid_argument_value",
        r"Input should be .*\[type=(?:greater|less|literal|enum|int|float|bool|string|finite|multiple)",
        "An option has a value that it cannot have.",
        _limit,
        _limit_numbers,
        anywhere=True,
    ),
)

#: After everything else: what pydantic refuses is some option, whatever it is.
LATE: tuple[Rule, ...] = (
    rule(
        "broken_install",
        r"failed to be inspected|Error in inspecting model architecture|No module named 'vllm\.(?P<module>\w+)'|cannot import name \S+ from (?:partially initialized module )?'vllm|vllm\._C|_C\.abi3\.so",
        "vLLM itself is not installed completely.",
        "Reinstall it in a clean environment (pip install --force-reinstall vllm), or use an official image (--vllm-image=vllm/vllm-openai-rocm:latest; docker run vllm/vllm-openai-rocm:latest); a folder called vllm in the current directory hides the package.",
        anywhere=True,
    ),
    rule(
        "python_package_missing",
        r"No module named '(?P<package>[\w.]+)'|Failed to import (?P<import>\w+)|Please install (?P<name>[\w\[\]-]+)",
        "The image lacks the Python package {package}{import}{name}.",
        "Use an image that has it (is it a vLLM image? --vllm-image=vllm/vllm-openai-rocm:latest; docker run vllm/vllm-openai-rocm:latest), or install it: pip install {package}{name}.",
        anywhere=True,
    ),
    rule(
        "library_missing",
        r"ImportError: (?P<library>lib[\w.+-]+): ",
        "The library {library} is missing.",
        "Use an official image: --vllm-image=vllm/vllm-openai-rocm:latest (docker run vllm/vllm-openai-rocm:latest).",
        anywhere=False,
    ),
)
