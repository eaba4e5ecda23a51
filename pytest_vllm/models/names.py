"""What a model's name says about it: the last resort, where "unknown" is a good answer.

No list of models is kept. What is written down is how families name their models:

1. A mark says it: `-Instruct`, `-it`, `-SFT`, …, or `-Base`, `-pretrained`. The last one wins,
   so `Llama-3-Base-8B-SFT` is tuned.
2. Newer families give the bare name to the tuned model and mark the base (`Qwen3-8B-Base`).
3. Older families give the bare name to the base model (`Llama-3.1-8B`). That holds for the
   bare name only: one word that is no size, date or format, and it is somebody's fine-tune.
4. Models from before chat templates (`gpt2`, `opt`) stay base whatever follows.

A wrong "base" would silently excuse the chat tests, so what no rule covers stays unknown.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

Kind = Literal["chat", "base", "unknown"]

_NOT_A_GENERATOR = re.compile(
    r"embed(?!ded)\w*|\w*embedding\w*|\w*rerank\w*|\w*reward\w*|[po]?rm|\w*bert\w*|col(pali|qwen)\w*"
    r"|bge|gte|e5|minilm|mpnet|splade|(sig)?clip|whisper|tts|classifier|\w*aligner"
    r"|eagle\d*|medusa|speculator|accelerator|dflash|draft|mtp|mmproj|lora|adapter"
)
_CHAT_MARK = re.compile(
    r"it|inst|\w*instruct(?!or)\w*|\w*chat[\w.]*|sft|dpo|kto|orpo|ppo|grpo|rlhf|rlvr|rl"
    r"|think|thinking|\w*thinker|reason|reasoning|reasoner|o?r1v?|dialogue?|\w*guard(ian)?"
)
_BASE_MARK = re.compile(r"(?!data)\w*base|pretrain|pretrained|pretraining|foundation")

#: Rule 2. Bare name = tuned model; what stands behind does not matter.
_TUNED_WHEN_BARE = re.compile(
    r"""(?:^|-)(?:
    q[wv]q | qwen-?(?:[3-9]|[1-9]\d) | gpt-oss | phi-?(?:[3-9]|[1-9]\d) | smollm-?[3-9] | smolvlm
    | deepseek-(?:v2\.5|v[3-9]|r\d|ocr|vl) | kimi | minimax | mimo | minicpm | lfm-?\d
    | glm-?(?:4\.\d|[5-9]|4v|z\d|ocr|4-\d+b-0414) | ernie-?(?:[4-9]|x\d)
    | (?:k-)?exaone | hunyuan | hy-?\d | granite-?(?:[4-9]|vision|speech|docling)
    | \w*nemotron | command-?[ar] | c4ai | aya | (?:ai21-)?jamba-?(?:1\.[5-9]|[2-9]|mini|large)
    | (?:mistral|ministral)-(?:tiny|small|medium|large|\d\b) | llama-3\.3
    | (?:devs|magis|pix|maths|codes|vox|leans)tral | ^step-?[3-9] | ^(?:ling|ring)-(?:\w+-)?\d
    | longcat | trinity | afm | solar-(?:pro|open) | sarvam-(?:m|\d+b) | internlm-?[3-9]
    | internvl | intern-s\d | yi-vl | a\.x | hyperclova | openpangu | seed-oss | grok-?[2-9] | cwm
    # Tuned by others, under a name of their own.
    | \w*hermes | zephyr | vicuna | wizard | alpaca | dolphin | starling | tulu | koala
    | guanaco | (?:open)?orca | airoboros | oasst | openthinker | (?:bak)?llava | idefics
    | molmo | ovis | ultravox | functionary | xlam
    )""",
    re.VERBOSE,
)
#: Rule 3. Bare name = base model, as long as the rest is `_NEUTRAL`.
_BASE_WHEN_BARE = re.compile(
    r"""(?:^|-)(?:
    (?:meta-)?llama-?(?:[124]|3|3\.[12])? | code-?llama | tinyllama | open-?llama
    | qwen-?(?:1\.5|2|2\.5)? | (?:code|recurrent|vault)?gemma(?:-3n)? | mistral(?=-\d) | mixtral
    | smollm-?2? | olmoe? | yi | internlm-?(?:2|2\.5)? | baichuan\d? | aquila\d?
    | deepseek-(?:llm|coder|math|moe|v2) | glm-4 | moonlight | falcon-?(?:h\d|mamba|\d)?
    | apertus | stablelm | stable-code | starcoder-?\d? | phi-?(?:1|1\.5|2) | zamba\d? | bamba
    | jamba-v0\.1 | mamba-?\d? | power(?:lm|moe) | plamo-?\d? | jais-?\d? | solar | sarvam-1
    | ouro | grok-1 | amber | xverse | skywork | eurollm | salamandra | openelm | mobilellm
    )(?=-|$)""",
    re.VERBOSE,
)
#: Rule 4. Older than chat templates: nothing that is called so can take chat requests.
_BEFORE_TEMPLATES = re.compile(
    r"(?:^opt|(?:^|-)(?:(?:distil)?gpt-?(?:2|sw3)|gpt-?j|gpt-?neox?|pythia|bloomz?|xglm|galactica|codegen\d?"
    r"|cerebras-gpt|gpt-bigcode|santacoder|mpt|rwkv|redpajama|llama-\d+m))(?=-|$)"
)
_NEUTRAL = re.compile(
    r"(?:v|a|e|x)?\d+(?:\.\d+)*(?:x\d+)?[bmkte]?|\d+x[\d.]+b|\d+e\d+t|[\d.]+bits?|[ikq]{1,2}\d\w*"
    r"|(?:bf|fp|int|nvfp|mxfp|uint)\d+\w*|w\d+a\d+\w*|awq|gptq|gguf|bnb|mlx|marlin|exl\d|hqq"
    r"|quark|autoround|qat|quantized|dynamic|static|kv|hf|main|deduped|intermediate|step|token"
    r"|preview|exp|lite|tiny|mini|small|medium|large|hybrid|random|dummy|debug|test|copy"
    r"|meta|nvidia|google|ai21|code|coder|math|python|py|vl|vision|audio|moe|[smlxk]|scout"
    r"|maverick|nemo|hpu|amd|ungated|unsloth|nightly|untied|text"
)
_MULTIMODAL = re.compile(r"\w*vl\d*|vlm|omni|ocr")


def parts(model: str) -> list[str]:
    """The words of a model's own name, as written: `['Llama', '3.1', '8B']`.

    Takes an id, a path (a Hugging Face snapshot too) or a file; what comes before the last
    slash and a GGUF ending do not count.
    """
    cached = re.search(r"models--(?:[^/]+--)?([^/]+)/snapshots/", model)
    name = cached[1] if cached else model.rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"\.gguf$", "", name, flags=re.IGNORECASE)
    # A dot between digits belongs to a version; `3_1` and `2_5` are versions as well.
    name = re.sub(r"(?<=\d)_(?=\d(?!\d))", ".", name)
    return [part for part in re.split(r"[-_:\s]+|\.(?=[A-Za-z]\w)", name) if part]


def mark(model: str) -> tuple[Kind, str]:
    """What the name says outright, and the part that says it; `("unknown", "")` if none does."""
    found: tuple[Kind, str] = ("unknown", "")
    for word, following in pairwise([*parts(model), ""]):
        if _BASE_MARK.fullmatch(word.lower()) or _is_pretrained(word, following, model):
            found = ("base", word)
        elif _CHAT_MARK.fullmatch(word.lower()):
            found = ("chat", word)
    return found


def _is_pretrained(word: str, following: str, model: str) -> bool:
    """Google's `-pt` is pre-trained; Baidu's `-PT` is post-trained, and `-pt-BR` a language."""
    return word == "pt" and following.lower() != "br" and "ernie" not in model.lower()


def read(model: str) -> tuple[Kind, str]:
    """Whether the model is tuned for chat, by its name, and the reason in words."""
    words = [part.lower() for part in parts(model)]
    for word in words:
        if _NOT_A_GENERATOR.fullmatch(word):
            return "unknown", f"name part {word!r}: not a model that chats or completes"
    kind, word = mark(model)
    if kind != "unknown":
        return kind, f"name part {word!r}"
    return _by_family("-".join(words), words, tagged=":" in model)


def _by_family(name: str, words: list[str], *, tagged: bool) -> tuple[Kind, str]:
    """Rules 2 to 4, for a name without a mark.

    Rule 3 does not hold for `tagged` names (`llama3.1:8b`): there the bare name is the tuned one.
    """
    if found := _TUNED_WHEN_BARE.search(name):
        return "chat", f"family {_label(found)!r}: a name without -Base is the tuned model"
    if found := _BEFORE_TEMPLATES.search(name):
        return "base", f"family {_label(found)!r}: older than chat templates"
    if (found := _BASE_WHEN_BARE.search(name)) and not tagged:
        rest = (name[: found.start()] + name[found.end() :]).split("-")
        strange = [word for word in rest if word and not _NEUTRAL.fullmatch(word)]
        if not strange:
            return "base", f"family {_label(found)!r}: a name without -Instruct is the base model"
        if not any(_MULTIMODAL.fullmatch(word) for word in words):
            return "unknown", f"family {_label(found)!r}, but {strange[0]!r} may be a fine-tune"
    for word in words:
        if _MULTIMODAL.fullmatch(word):
            return "chat", f"name part {word!r}: multimodal models are released tuned"
    return "unknown", "the name follows no convention that is known here"


def _label(found: re.Match[str]) -> str:
    return found[0].strip("-")


def base_despite_template(model: str) -> str:
    """Why a model is a base model although its files hold a chat template; empty if it is not.

    Base models of Qwen 1.5 to 2.5 ship one, and so do many that have `-Base` in their name.
    """
    kind, reason = read(model)
    ships_one = re.search(r"(?:^|-)qwen-?(?:1\.5|2)", "-".join(parts(model)).lower())
    return reason if kind == "base" and (ships_one or mark(model)[0] == "base") else ""
