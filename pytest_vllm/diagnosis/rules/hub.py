"""The Hugging Face hub: gated, missing, unreachable, offline, and the cache that it fills.

`GatedRepoError` and `RepositoryNotFoundError` are stable names of huggingface_hub 0.x to 2.x; the
words around them are not. All network failures end in the same two sentences, so the kind is
looked for in the lines before.
"""

from __future__ import annotations

from pytest_vllm.diagnosis.rules.rule import Rule, rule

_TOKEN = (
    "export HF_TOKEN=… before pytest: the plugin hands it on by name (docker run -e HF_TOKEN), and never prints it. "
    "Make one at https://huggingface.co/settings/tokens."
)
_CACHED = "Download it beforehand (hf download MODEL) into the folder of --vllm-hf-cache (docker run -v ~/.cache/huggingface:/root/.cache/huggingface)"

RULES: tuple[Rule, ...] = (
    rule(
        "hf_rate_limited",
        r"Rate limited\. Waiting (?P<wait_s>[\d.]+) ?s before retry \[Retry (?P<retry>\d+)/(?P<retries>\d+)\]",
        "The hub has had too many requests from here.",
        "Wait, or pass a token, which has a higher limit. "
        + _TOKEN
        + " With the model in the cache: --vllm-env HF_HUB_OFFLINE=1.",
        lambda f: {"status": 429, "wait_s": float(f["wait_s"]), "retries": int(f["retries"])},
        anywhere=True,
    ),
    rule(
        "hf_rate_limited",
        r"429 (?:Client Error|Too Many Requests)|HTTP Error 429|Too Many Requests for url",
        "The hub has had too many requests from here.",
        "Wait, or pass a token, which has a higher limit. "
        + _TOKEN
        + " With the model in the cache: --vllm-env HF_HUB_OFFLINE=1.",
        lambda f: {"status": 429},
        anywhere=True,
    ),
    rule(
        "hf_gated_no_permission",
        r"GatedRepoError: 403|is restricted and you are not in the authorized list|awaiting a review from the repo authors",
        "The token works, but its account has no access to this gated model.",
        "Ask for access on the model's page at https://huggingface.co with the account of the token (hf auth whoami shows which), then start again with HF_TOKEN=… (docker run -e HF_TOKEN).",
        lambda f: {"status": 403},
        anywhere=True,
    ),
    rule(
        "hf_gated_no_token",
        r"GatedRepoError|Cannot access gated repo|Access to model \S+ is restricted(?!.*authorized list)",
        "The model is gated, and no token was given that opens it.",
        "Accept the licence on the model's page, then " + _TOKEN,
        lambda f: {"status": 401},
        anywhere=True,
    ),
    rule(
        "hf_revision_not_found",
        r"RevisionNotFoundError|Revision Not Found for url|is not a valid git identifier",
        "The model has no such revision.",
        "Correct --vllm-arg=--revision=main, or drop it.",
        anywhere=True,
    ),
    rule(
        "hf_repo_not_found",
        r"RepositoryNotFoundError: 404|404 Client Error.*Repository Not Found",
        "The hub has no model of this name.",
        "Check the name on https://huggingface.co: --vllm-model OWNER/MODEL (vllm serve OWNER/MODEL), with capitals as written there.",
        lambda f: {"status": 404},
        anywhere=True,
    ),
    rule(
        "hf_repo_not_found_or_private",
        r"RepositoryNotFoundError|is not a valid model identifier listed on|Repository Not Found for url|401 (?:Client Error|Unauthorized).*huggingface|Invalid username or password",
        "The hub has no public model of this name.",
        "Check the name first (owner/model): without a token the hub says the same of a private model. For a private one: "
        + _TOKEN,
        lambda f: {"status": 401},
        anywhere=True,
    ),
    rule(
        "hf_server_error",
        r"(?:Server error '|HfHubHTTPError: |HTTPError: )'?(?P<status>50[0234])|(?P<code>50[0234]) Server Error",
        "The hub is in trouble itself.",
        "Try again later, or serve from the cache with --vllm-env HF_HUB_OFFLINE=1 (docker run -e HF_HUB_OFFLINE=1).",
        lambda f: {"status": int(f["status"] or f["code"])},
        anywhere=True,
    ),
    rule(
        "hf_tls_error",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError",
        "The hub's certificate is not trusted here: a proxy opens the connection.",
        "Mount your CA certificates and name them: docker run -v /etc/ssl/certs/ca-certificates.crt:/ca.crt:ro -e SSL_CERT_FILE=/ca.crt "
        "-e REQUESTS_CA_BUNDLE=/ca.crt (--vllm-env SSL_CERT_FILE=/ca.crt).",
        anywhere=True,
    ),
    rule(
        "hf_offline_not_cached",
        r"OfflineModeIsEnabled|LocalEntryNotFoundError.*(?:offline|outgoing traffic has been disabled)|outgoing traffic has been disabled|HF_HUB_OFFLINE=1|offline mode is enabled",
        "Offline mode is on, and the model is not in the cache.",
        _CACHED + ", check that this is the folder that is mounted, or unset HF_HUB_OFFLINE.",
        anywhere=True,
    ),
    rule(
        "disk_full",
        r"No space left on device|Not enough free disk space|ENOSPC|Disk quota exceeded",
        "The disk is full.",
        "Make room, or put the cache on a larger disk: --vllm-hf-cache=DIR (docker run -v DIR:/root/.cache/huggingface). df -h shows it.",
        anywhere=True,
    ),
    rule(
        "hf_cache_not_writable",
        r"(?:Read-only file system|Permission denied): '(?P<path>[^']*/(?:hub|huggingface|models--[^/']*|\.locks)[^']*)'",
        "The Hugging Face cache may not be written: {path}.",
        "Mount it writable and owned by the container's user (--vllm-hf-cache=DIR; docker run -v DIR:/root/.cache/huggingface), or fill it beforehand and set --vllm-env HF_HUB_OFFLINE=1.",
        anywhere=True,
    ),
    rule(
        "hf_download_interrupted",
        r"IncompleteRead|Consistency check failed|ChunkedEncodingError|Connection broken|peer closed connection without sending complete",
        "A download of the model broke off.",
        "Start again: it goes on where it stopped (hf download MODEL); HF_HUB_DOWNLOAD_TIMEOUT=60 helps on slow lines.",
        anywhere=True,
    ),
    rule(
        "hf_network",
        r"We couldn't connect to '?https?://|Temporary failure in name resolution|Max retries exceeded with url.*(?:huggingface|resolve)|(?:httpc?o?r?e?\d?x?\d?\.)?ConnectError|NameResolutionError|LocalEntryNotFoundError|ConnectTimeout|ReadTimeout",
        "The hub cannot be reached from here, and the model is not in the cache.",
        _CACHED
        + " and set --vllm-env HF_HUB_OFFLINE=1; or give the container a network and, behind a proxy, HTTPS_PROXY.",
        anywhere=True,
    ),
)
