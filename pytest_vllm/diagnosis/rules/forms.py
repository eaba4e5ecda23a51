"""One remedy, two forms: this plugin's option, and the flag of `vllm serve` or `docker run`.

Rules are written with the plugin's option; the other form is put behind it here, so that no rule
can lack it.
"""

from __future__ import annotations

import re

#: Option of the plugin -> flag of `vllm serve`.
SERVE = {
    "--vllm-gpu-util": "--gpu-memory-utilization",
    "--vllm-max-model-len": "--max-model-len",
    "--vllm-gpus": "--tensor-parallel-size",
    "--vllm-dtype": "--dtype",
}
#: Option of the plugin -> flag of `docker run`.
RUN = {"--vllm-hf-cache": "-v", "--vllm-image": "docker run"}

_ARG = re.compile(
    r"--vllm-arg=(?P<q>'?)(?P<flag>--[\w-]+)(?:=(?P<value>[^\s;)]*[^\s;).,:]))?(?P=q)"
)
_ENV = re.compile(r"(?:--vllm-env [A-Za-z_]\w*(?:=[^\s;)]*[^\s;).,:])?(?: |(?=\W|$)))+")


def in_both_forms(remedy: str) -> str:
    """Put the plain form behind each option of the plugin that stands alone."""
    remedy = _ENV.sub(lambda m: _env(m, remedy), remedy)
    remedy = _ARG.sub(lambda m: _arg(m, remedy), remedy)
    for option, flag in SERVE.items():
        remedy = _serve(option, flag, remedy)
    return remedy


def _arg(match: re.Match[str], remedy: str) -> str:
    flag, value, quote = match["flag"], match["value"], match["q"]
    if re.search(rf"(?<![=\w]){flag}\b", remedy):
        return match[0]
    plain = flag if value is None else f"{flag} {quote}{value}{quote}"
    return f"{match[0]} (vllm serve {plain})"


def _env(match: re.Match[str], remedy: str) -> str:
    pairs = re.findall(r"--vllm-env (\S+)", match[0].rstrip())
    if any(f"-e {pair.split('=')[0]}" in remedy for pair in pairs):
        return match[0]
    tail = " " if match[0].endswith(" ") else ""
    return f"{match[0].rstrip()} (docker run {' '.join(f'-e {pair}' for pair in pairs)}){tail}"


def _serve(option: str, flag: str, remedy: str) -> str:
    if option not in remedy or re.search(rf"(?<![\w-]){flag}\b", remedy):
        return remedy
    found = re.search(rf"{option}(?: [\d.]*\d| float16)?", remedy)
    assert found is not None
    value = found[0].removeprefix(option)
    return f"{remedy[: found.end()]} (vllm serve {flag}{value}){remedy[found.end() :]}"
