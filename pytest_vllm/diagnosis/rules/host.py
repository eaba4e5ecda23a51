"""The host and the container: shared memory, limits, file systems, users, libraries, network."""

from __future__ import annotations

import re

from pytest_vllm.diagnosis.rules.rule import Found, Numbers, Rule, rule


def _shm(found: Found) -> str:
    """Twice what is needed, since the number of segments grows with the workers."""
    needed = _shm_numbers(found).get("required_mib", 0)
    size = f"{max(1, -(-needed * 2 // 1024))}g" if needed else "16g"
    sums = f"{needed} MiB are needed, {found['free_mib']} MiB are free: " if needed else ""
    return (
        f"{sums}docker run --shm-size {size}, or --ipc=host, as the plugin does by itself; Docker's default is 64 MiB. "
        "With several GPUs give 16g; in Kubernetes an emptyDir with medium: Memory at /dev/shm."
    )


def _shm_numbers(found: Found) -> dict[str, int]:
    groups = found.match.groupdict()
    return {name: int(value) for name, value in groups.items() if value is not None}


def _port_numbers(found: Found) -> Numbers:
    pattern = r"\('[^']*', (\d+)\)|[Pp]ort:? (\d+)|:(\d{2,5})\b(?!\d*:)"
    match = re.search(pattern, found.match.string)
    return {"port": int(match[1] or match[2] or match[3])} if match else {}


def _port(found: Found) -> str:
    port = _port_numbers(found).get("port")
    other = int(port) + 1 if port else 8001
    who = f"sport = :{port}" if port else "state listening"
    return (
        f"Use another: vllm serve --port {other} (the plugin takes a free one by itself); "
        f"sudo ss -ltnp '{who}' shows who has it."
    )


RULES: tuple[Rule, ...] = (
    rule(
        "shm_too_small",
        r"creating shared memory segment /dev/shm/\S+ \(size (?P<segment_bytes>\d+)\)|Insufficient space in /dev/shm.*?(?P<required_mib>\d+) MiB required, (?P<free_mib>\d+) MiB free|No space left on device.*(?:/dev/shm|psm_|nccl-)|(?:/dev/shm|shared memory).*(?:too small|No space|insufficient)|unable to (?:mmap|allocate shared memory).*/dev/shm|Bus error.*shared memory",
        "/dev/shm is too small.",
        _shm,
        _shm_numbers,
        anywhere=True,
    ),
    rule(
        "host_oom_killed",
        r"^\s*Killed\s*$|[Oo]ut of memory: Killed process|oom-kill:|due to memory pressure|Memory cgroup out of memory",
        "The kernel killed the server: the host memory that it may use was not enough.",
        "Give the container more memory (docker run --memory 32g), free host memory (free -g; dmesg | grep -i oom), "
        "or serve a smaller model.",
        anywhere=True,
    ),
    rule(
        "vllm_port_env_from_kubernetes",
        r"VLLM_PORT '(?P<VLLM_PORT>[^']+)' appears to be a URI",
        "Kubernetes has set VLLM_PORT to {VLLM_PORT}, since a service is called vllm.",
        "Rename the service, or enableServiceLinks: false in the pod's spec; by hand: unset VLLM_PORT.",
        anywhere=True,
    ),
    rule(
        "vllm_port_misused",
        r"VLLM_PORT.*(?:invalid|must be|should)|invalid literal for int\(\).*VLLM_PORT",
        "VLLM_PORT is not the server's port: it is for vLLM's own processes.",
        "unset VLLM_PORT, and give the server's own port to vllm serve --port 8000 (the plugin chooses one by itself).",
        anywhere=True,
    ),
    rule(
        "port_in_use",
        r"Errno 98|EADDRINUSE|[Aa]ddress already in use|error while attempting to bind on address|Port \d+ is (?:already )?in use",
        "The server's port is taken.",
        _port,
        _port_numbers,
        anywhere=True,
    ),
    rule(
        "bind_address_invalid",
        r"[Cc]annot assign requested address|Errno 99|Name or service not known.*bind|getaddrinfo failed.*host",
        "The server was told to listen on an address that it does not have.",
        "In a container: --host 0.0.0.0; the plugin does this by itself, and publishes on 127.0.0.1.",
        anywhere=True,
    ),
    rule(
        "nofile_limit",
        r"(?:socket|accept|epoll_create|pipe|open)?: ?Too many open files|Errno 24",
        "The limit of open files is too low.",
        "docker run --ulimit nofile=65536:65536 (for a process: ulimit -n 65536).",
        anywhere=True,
    ),
    rule(
        "pids_limit",
        r"Resource temporarily unavailable|can't start new thread|pthread_create failed|fork: retry|BlockingIOError: \[Errno 11\]|OpenBLAS blas_thread_init",
        "The limit of processes and threads is too low.",
        "docker run --pids-limit=-1 (or a few thousand); ulimit -u.",
        anywhere=True,
    ),
    rule(
        "uid_without_passwd_entry",
        r"getpwuid\(\): uid not found: (?P<uid>\d+)|No user exists for uid|uid not found|I have no name",
        "The container's user {uid} has no name, and PyTorch wants one.",
        "--vllm-env USER=vllm --vllm-env HOME=/tmp --vllm-env TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor , or run as a user that the image has (docker run --user 0).",
        anywhere=True,
    ),
    rule(
        "read_only_filesystem",
        r"No usable temporary directory found",
        "The container has no writable temporary folder.",
        "docker run --read-only --tmpfs /tmp.",
        anywhere=True,
    ),
    rule(
        "tls_file_missing",
        r"ssl_(?:keyfile|certfile|ca_certs).*No such file|(?:keyfile|certfile).*(?:not found|No such file)|load_cert_chain",
        "The TLS key or certificate is not there.",
        "Mount the files (docker run -v DIR:/tls:ro), and correct --vllm-arg=--ssl-keyfile=/tls/key.pem and --vllm-arg=--ssl-certfile=/tls/cert.pem.",
        anywhere=True,
    ),
    rule(
        "cache_not_writable",
        r"(?:Read-only file system|Permission denied): '(?P<path>(?:/root)?/\.?(?:cache|config|triton|home)[^']*|[^']*/\.(?:cache|config|triton|aiter|vllm)[^']*)'",
        "vLLM may not write to its cache, {path}.",
        "Give it one: docker run --tmpfs /root/.cache, or --vllm-env VLLM_CACHE_ROOT=/tmp/vllm --vllm-env HOME=/tmp.",
        anywhere=True,
    ),
    rule(
        "glibc_too_old",
        r"GLIBC(?:XX)?_(?P<needs>[\d.]+)['`]? not found",
        "The system is older than the binaries.",
        "Run the container image instead of a wheel: --vllm-launcher docker (docker run vllm/vllm-openai-rocm:latest); ldd --version shows what this system has.",
        # A version, not a number.
        lambda f: {"needs": f["needs"]},
        anywhere=True,
    ),
    rule(
        "compiler_missing",
        r"InvalidCxxCompiler|No working C\+\+ compiler|Failed to find C compiler|(?:gcc|g\+\+|cc1plus): (?:No such file|not found|command not found)|fatal error: [\w./]+\.h(?:pp)?: No such file|CppCompileError",
        "A kernel is compiled at run time, and there is no compiler.",
        "apt-get install -y gcc g++ python3-dev in the image; on a CPU --vllm-env TORCHDYNAMO_DISABLE=1 goes without.",
        anywhere=True,
    ),
    rule(
        "library_missing",
        r"(?P<library>lib[\w.+-]+\.so[.\d]*): cannot open shared object file|OSError: .*lib[\w.+-]+\.so[.\d]*: cannot open",
        "The library {library} is missing.",
        "Use an official image (--vllm-image=vllm/vllm-openai-rocm:latest; docker run vllm/vllm-openai-rocm:latest), or install the package that has it (apt-file search {library}).",
        anywhere=True,
    ),
    rule(
        "library_mismatch",
        r"undefined symbol|_OpNamespace' '\w+' object has no attribute|cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'|incompatible with|has no attribute '__version__'|numpy\.dtype size changed|has no attribute all_special_tokens_extended|version conflict|requires? .* but you have",
        "Two packages of the image do not fit each other.",
        "Use an official image as it is (--vllm-image=vllm/vllm-openai-rocm:latest; docker run vllm/vllm-openai-rocm:latest), or reinstall vLLM with its pinned dependencies in a clean environment (pip install --force-reinstall vllm; pip check).",
        anywhere=False,
    ),
    rule(
        "gloo_network",
        r"Unable to find address for: (?P<interface>\S+)|gloo.*(?:connect|interface|timed out|refused)|GLOO_SOCKET_IFNAME|unable to resolve hostname to a \(local\) address",
        "The processes find no network interface to talk over ({interface}).",
        "Correct or unset GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME (ip -br addr shows the names); the container's host name must resolve: docker run --network host, or an entry in /etc/hosts.",
        anywhere=True,
    ),
    rule(
        "proxy_blocks_localhost",
        r"(?:ProxyError|proxy).*(?:127\.0\.0\.1|localhost)|(?:127\.0\.0\.1|localhost).*ProxyError",
        "A proxy stands between vLLM and its own machine.",
        "--vllm-env no_proxy=localhost,127.0.0.1 --vllm-env NO_PROXY=localhost,127.0.0.1.",
        anywhere=True,
    ),
    rule(
        "startup_timeout_external",
        r"Timed out waiting for engine core processes|VLLM_ENGINE_READY_TIMEOUT_S|[Ll]iveness probe failed|[Ss]tartup probe failed",
        "The start took longer than it was allowed to.",
        "--vllm-env VLLM_ENGINE_READY_TIMEOUT_S=3600 and --vllm-startup-timeout 1h; in Kubernetes a startupProbe with failureThreshold: 360.",
        anywhere=True,
    ),
)
