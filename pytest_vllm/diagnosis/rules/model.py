"""The model's files: where they are, what they are, and whether this vLLM can serve them."""

from __future__ import annotations

import re
from typing import Any

from pytest_vllm.diagnosis.rules.rule import Found, Rule, rule

_AGAIN = "Download it again (hf download MODEL --force-download; git lfs pull in a clone), and compare the sizes with the model's page."


def _capabilities(found: Found) -> dict[str, int]:
    pattern = r"Minimum capability: (\d+)\. Current capability: (\d+)"
    match = re.search(pattern, found.match.string)
    return {"min": int(match[1]), "current": int(match[2])} if match else {}


def _heads(found: Found) -> str:
    numbers = _heads_numbers(found)
    valid = ", ".join(str(size) for size in numbers["tp_valid"])
    best = max(size for size in numbers["tp_valid"] if size <= max(1, numbers["tp"]))
    return (
        f"{numbers['heads']} attention heads can be split over {valid} GPUs, and not over {numbers['tp']}: --vllm-gpus {best} "
        f"(vllm serve --tensor-parallel-size {best})."
    )


def _heads_numbers(found: Found) -> dict[str, Any]:
    heads, size = int(found["heads"]), int(found["tp"])
    return {
        "heads": heads,
        "tp": size,
        # No machine has more than 16 GPUs.
        "tp_valid": [n for n in range(1, min(heads, 16) + 1) if heads % n == 0],
    }


def _too_long(found: Found) -> str:
    length = int(float(found["derived"]))
    return (
        f"--vllm-max-model-len {length} or less (vllm serve --max-model-len {length}); only if the model is meant to be "
        "stretched: VLLM_ALLOW_LONG_MAX_MODEL_LEN=1, or --vllm-arg=--hf-overrides=… with rope_scaling."
    )


def _devices(found: Found) -> str:
    there = _devices_numbers(found).get("gpus", "N")
    return (
        f"Use no more than there are: --vllm-gpus {there} (vllm serve --tensor-parallel-size {there} "
        "--pipeline-parallel-size 1), hand more GPUs to the container (docker run --device=/dev/kfd --device=/dev/dri), "
        "or span machines: --vllm-arg=--distributed-executor-backend=ray."
    )


def _devices_numbers(found: Found) -> dict[str, int]:
    asked = found["tp"] or found["size"] or found["world"]
    there = found["gpus"] or found["there"] or found["local"]
    numbers: dict[str, int] = {}
    if asked:
        numbers |= {"tp": int(asked), "world_size": int(asked)}
    if there:
        numbers |= {"gpus": int(there), "local_gpus": int(there)}
    return numbers


RULES: tuple[Rule, ...] = (
    rule(
        "max_model_len_exceeds_model",
        r"max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len \([^=]*=(?P<derived>[\d.]+)",
        "A longer context was asked for than the model has.",
        _too_long,
        lambda f: {
            "max_model_len": int(f["asked"]),
            "derived_max_model_len": int(float(f["derived"])),
        },
        anywhere=True,
    ),
    rule(
        "tp_not_dividing_heads",
        r"(?:Total )?[Nn]umber of attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<tp>\d+)\)",
        "The attention heads cannot be split evenly over the GPUs.",
        _heads,
        _heads_numbers,
        anywhere=True,
    ),
    rule(
        "tp_not_dividing_heads",
        r"is not divisible by (?:tp_size|tensor_?parallel)|\b(?P<heads>\d{1,9}) is not divisible by (?P<tp>\d{1,9})$",
        "A dimension of the model cannot be split evenly over the GPUs.",
        lambda f: (
            _heads(f)
            if f["heads"]
            else "Use a tensor parallel size that divides it: 1, 2, 4 or 8 (--vllm-gpus; --tensor-parallel-size)."
        ),
        lambda f: _heads_numbers(f) if f["heads"] else {},
    ),
    rule(
        "tp_exceeds_devices",
        r"(?:Not|No) enough allowed NUMA nodes to bind threads of (?P<workers>\d+) local CPUWorkers\. Allowed NUMA nodes are \[(?P<nodes>[^\]]*)\]",
        "There are more workers than NUMA nodes.",
        '--vllm-gpus 1 (--tensor-parallel-size 1, --pipeline-parallel-size 1), or bind by hand: --vllm-env VLLM_CPU_OMP_THREADS_BIND="0-3|4-7".',
        lambda f: {"workers": int(f["workers"]), "numa_nodes": len(f["nodes"].split(","))},
        anywhere=True,
    ),
    rule(
        "tp_exceeds_gpus",
        r"World size \((?P<tp>\d+)\) is larger than the number of available (?:GPUs|devices) \((?P<gpus>\d+)\)"
        r"|Tensor parallel size \((?P<size>\d+)\) cannot be larger than(?:[^(]*\((?P<there>\d+)\))?"
        r"|ensure that world_size(?: \((?P<world>\d+)\)[^(]*\((?P<local>\d+)\))?|placement group.*cannot be|The number of required GPUs exceeds",
        "More GPUs were asked for than there are.",
        _devices,
        _devices_numbers,
        anywhere=True,
    ),
    rule(
        "unsupported_architecture",
        r"Model architectures \[(?P<list>[^\]]*)\] are not supported|has no vLLM implementation",
        "This vLLM does not know the model's architecture {list}.",
        "Use an image with a newer vLLM (--vllm-image), or try --vllm-arg=--model-impl=transformers (vllm serve --model-impl transformers).",
        lambda f: {"architecture": f["list"].split(",")[0].strip(" '\"")} if f["list"] else {},
        anywhere=True,
    ),
    rule(
        "transformers_too_old",
        r"does not recognize this architecture|model type `?(?P<model_type>[\w.-]+)`? but Transformers|KeyError: '(?:qwen|llama|gemma|mistral|deepseek|glm|phi|minimax|gpt)[\w.-]*'",
        "The image's Transformers is older than the model ({model_type}).",
        "Use an image with a newer vLLM and Transformers (--vllm-image). If the model brings its own code: --vllm-arg=--trust-remote-code.",
        anywhere=True,
    ),
    rule(
        "trust_remote_code_required",
        r"trust_remote_code=True|contains custom code which must be executed|requires you to execute the configuration file",
        "The model brings Python code of its own, which is not run without leave.",
        "Read that code, then --vllm-arg=--trust-remote-code (vllm serve --trust-remote-code).",
        anywhere=True,
    ),
    rule(
        "weights_corrupt",
        r"SafetensorError|Error while deserializing header|HeaderTooLarge|InvalidHeaderDeserialization|MetadataIncompleteBuffer|incomplete metadata|UnpicklingError|PytorchStreamReader failed|invalid load key|EOFError: Ran out of input|cannot mmap an empty file",
        "A file of weights is damaged: cut off, empty, or a git-lfs pointer instead of the weights.",
        _AGAIN,
        anywhere=True,
    ),
    rule(
        "lora_not_found",
        r"No such file or directory: '(?P<path>[^']*adapter_(?:config|model)[^']*)'|No adapter found for (?P<adapter>\S+)|Loading lora \S+ failed: No adapter",
        "The LoRA adapter is not there: {path}.",
        "Mount its folder, with adapter_config.json in it (docker run -v PATH:PATH:ro), and correct --vllm-arg=--lora-modules=NAME=PATH.",
        anywhere=True,
    ),
    rule(
        "lora_rank_too_high",
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank:? ?(?P<limit>\d+)",
        "The adapter has rank {rank}, and the server takes up to {limit}.",
        lambda f: (
            f"--vllm-arg=--max-lora-rank={_next_rank(int(f['rank']))} (vllm serve --max-lora-rank {_next_rank(int(f['rank']))})."
        ),
        lambda f: {"rank": int(f["rank"]), "limit": int(f["limit"]), "max": int(f["limit"])},
        anywhere=True,
    ),
    rule(
        "lora_not_enabled",
        r"LoRA is not enabled",
        "An adapter was given, and LoRA is off.",
        "--vllm-arg=--enable-lora (vllm serve --enable-lora).",
        anywhere=True,
    ),
    rule(
        "lora_unsupported",
        r"does not (?:yet )?support (?:DoRA|RSLoRA|LoRA)|not supported (?:with|for) LoRA|unsupported LoRA weight|target module.*LoRA|expected target modules in|adapter weights .* unexpected modules|does not support LoRA",
        "This adapter trains something that vLLM's LoRA does not support.",
        "Merge it into the model (python: PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(DIR)) and serve --vllm-model=DIR (vllm serve DIR), or train without DoRA, bias and modules_to_save.",
        anywhere=True,
    ),
    rule(
        "chat_template_not_found",
        r"chat template string \((?P<path>[^)]*)\) appears path-like, but doesn't exist",
        "The chat template {path} is not there.",
        "Mount the file into the container (docker run -v FILE:FILE:ro), or correct --vllm-arg=--chat-template=FILE; bare names are looked up in the image.",
        anywhere=True,
    ),
    rule(
        "tool_parser_unknown",
        r"invalid tool call parser: (?P<parser>\S+)",
        "There is no tool call parser {parser}.",
        "--vllm-arg=--tool-call-parser=NAME with one that the message lists; for Qwen2.5 it is hermes.",
        anywhere=True,
    ),
    rule(
        "reasoning_parser_unknown",
        r"invalid reasoning parser: (?P<parser>\S+)|[Rr]easoning parser '?(?P<name>[\w-]+)'? (?:not found|is not)",
        "There is no reasoning parser {parser}{name}.",
        "--vllm-arg=--reasoning-parser=NAME with one that the message lists.",
        anywhere=True,
    ),
    rule(
        "quantization_mismatch",
        r"Quantization method specified in the model config \((?P<config>\S+)\) does not match the quantization method specified in the `quantization` argument \((?P<argument>\S+)\)",
        "The checkpoint is quantized with {config}, and {argument} was asked for.",
        "Drop --quantization {argument}, or --vllm-arg=--quantization={config}: vLLM reads it from the checkpoint.",
        anywhere=True,
    ),
    rule(
        "quantization_unknown",
        r"Unknown quantization method: (?P<method>[\w-]+)|Invalid quantization method: (?P<name>[\w-]+)",
        "This build of vLLM does not know the quantization {method}{name}.",
        "Use a checkpoint with one that the message lists (AWQ, GPTQ, FP8, compressed-tensors): --vllm-model OWNER/MODEL-AWQ (vllm serve OWNER/MODEL-AWQ), or another image (--vllm-image=IMAGE; docker run IMAGE).",
        anywhere=True,
    ),
    rule(
        "fp8_unsupported_on_gpu",
        r"fp8e4(?:nv|b15).*not supported|FP8.*(?:only|not) supported (?:on|for)|torch\._scaled_mm is only supported|fp8 quantization is currently only supported",
        "This GPU cannot compute in FP8.",
        "MI300 or newer (gfx942, gfx950) can; else use a BF16, AWQ or GPTQ checkpoint: --vllm-model OWNER/MODEL-AWQ (vllm serve OWNER/MODEL-AWQ).",
        anywhere=True,
    ),
    rule(
        "quantization_unsupported_on_gpu",
        r"quantization is currently not supported (?:in|on)|quantization method \S+ is not supported|Failed to find a kernel that can implement|is not supported for the current GPU|Minimum capability|no (?:kernel|backend).*quantiz",
        "No kernel for this quantization exists for this device.",
        "Use another checkpoint of the model, BF16 or a quantization that this GPU has kernels for: --vllm-model OWNER/MODEL (vllm serve OWNER/MODEL); the log names the reasons per kernel.",
        _capabilities,
        anywhere=True,
    ),
    rule(
        "weights_config_mismatch",
        r"Tried to load weights of size|There is no module or parameter named|Attempted to load weight (?:\D*(?P<loaded>\d+)\]?\)+ into parameter \D*(?P<expected>\d+))?|assert param_data\.shape == loaded_weight\.shape|size mismatch for|Following weights were not initialized|KeyError: '[\w.]*(?:layers|blocks|\bh)\.\d+\.|KeyError: '[\w.]+\.(?:weight|bias|q?weight_\w+|qweight|qzeros|scales|g_idx|absmax)'|start \(\d+\) \+ length \(\d+\) exceeds dimension size",
        "The weights do not fit the model's config.json.",
        "Use config.json and weights of the same checkpoint: quantization_config, sizes and layer names must agree: hf download MODEL --force-download.",
        anywhere=True,
    ),
    rule(
        "weights_missing",
        r"Cannot find any model weights with|does not appear to have a file named (?:pytorch_model|model)|No such file or directory: '?(?P<path>\S*model-\d+-of-\d+\S*)|Could not find .*\.(?:safetensors|bin)|shard.*(?:missing|not found)",
        "The folder has no weights, or not all of them.",
        "Complete the download: hf download MODEL --local-dir DIR; every file of *.index.json must be there.",
        anywhere=True,
    ),
    rule(
        "model_path_permission",
        r"Permission denied: '(?P<path>/(?!(?:[^']*/)?(?:hub|huggingface|models--[^/']*|\.locks)(?:/(?![^']*(?:\.json|safetensors))|'))[^']*(?:models?|snapshots|blobs|safetensors|config\.json)[^']*)'|FileNotFoundError: No such file or directory: (?P<file>/\S+\.safetensors)$",
        "The container's user may not read the model's files ({path}{file}).",
        "sudo chmod -R a+rX DIR, or run as the owner (docker run --user $(id -u):$(id -g)).",
        anywhere=True,
    ),
    rule(
        "model_config_invalid",
        r"is not a valid JSON file|json\.decoder\.JSONDecodeError|num_hidden_layers. \((?P<num_hidden_layers>\d+)\) must be equal to the number of `layer_types` \((?P<layer_types>\d+)\)|(?:not a valid|invalid) config\.json|Unrecognized model in|rope_scaling.*(?:must|should)|Should have a `model_type` key",
        "The model's config.json is broken or contradicts itself.",
        _AGAIN + " Then check what --vllm-arg=--hf-overrides=… changes.",
        anywhere=True,
    ),
    rule(
        "model_path_not_found",
        r"Repo id must (?:be in the form|use alphanumeric).*: '(?P<path>/[^']*)'",
        "The folder {path} does not exist where the server looks.",
        "Give --vllm-model=PATH a folder of this host (the plugin mounts it); by hand: docker run -v PATH:PATH:ro.",
        anywhere=True,
    ),
    rule(
        "request_too_long",
        r"maximum context length is (?P<max>\d+) tokens.*?(?:requested|has|contains)[^\d]*(?P<prompt>\d+)",
        "A request was longer than the model's context: {prompt} tokens of {max}.",
        "Shorten it, or serve with a longer --vllm-max-model-len (vllm serve --max-model-len).",
        anywhere=True,
    ),
    rule(
        "model_path_not_found",
        r"Repo id must (?:be in the form|use alphanumeric)|HFValidationError|Incorrect path_or_model_id",
        "This is neither a folder that exists nor a model id.",
        "--vllm-model OWNER/MODEL or --vllm-model=/path/of/folder (vllm serve OWNER/MODEL, or docker run -v PATH:PATH:ro … --model PATH).",
        anywhere=True,
    ),
    rule(
        "model_path_empty",
        r"Invalid repository ID or local directory specified: '(?P<path>[^']*)'|(?<!\S)(?P<dir>/\S{1,400}) does not appear to have a file named config\.json",
        "{path}{dir} holds no model: there is no config.json.",
        "Check the host's side of the mount: the folder must have config.json, tokenizer and weights (ls -l {path}{dir}); hf download MODEL --local-dir {path}{dir}.",
        anywhere=True,
    ),
    rule(
        "tokenizer_error",
        r"No tokenizer file found|NoneType' object has no attribute 'endswith'|Couldn't instantiate the backend tokenizer|[Tt]okenizer class \S+ does not exist|data did not match any variant of untagged enum|Error\(\"(?:expected|missing field)|Can't load tokenizer|tokenizer\.json.*(?:invalid|not valid)|tiktoken|sentencepiece",
        "The tokenizer's files are missing, damaged or too new for this image.",
        _AGAIN
        + " --tokenizer-mode mistral needs tekken.json or tokenizer.model: else --vllm-arg=--tokenizer-mode=auto.",
        anywhere=True,
    ),
    rule(
        "chat_template_invalid",
        r"jinja2\.exceptions\.(?:TemplateSyntaxError|UndefinedError|TemplateError): (?P<why>.+)",
        "The chat template is broken: {why}",
        "Mend it, or give another: --vllm-arg=--chat-template=FILE (vllm serve --chat-template FILE). The server starts all the same, but every chat fails.",
        anywhere=True,
    ),
)


def _next_rank(rank: int) -> int:
    """The smallest rank that vLLM accepts as a limit (8, 16, 32, … 512) and that is enough."""
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)
