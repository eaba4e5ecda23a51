"""What Docker refuses: texts of the engine and of its command, matched whatever the status is.

Most start errors are HTTP 500, so only the words tell (notes: moby's own messages are stable).
"""

from __future__ import annotations

from pytest_vllm.diagnosis.rules.rule import Rule, rule

_GROUPS = (
    "Give the number instead of the name, since names are looked up inside the image: "
    "--vllm-platform rocm adds the numeric groups by itself "
    "(docker run --group-add $(getent group render | cut -d: -f3) --group-add $(getent group video | cut -d: -f3)). "
    "An empty value means that the group was not found on this host."
)

RULES: tuple[Rule, ...] = (
    rule(
        "docker_permission",
        r"this user may not talk to it|permission denied while trying to connect to the Docker|"
        r"(?:dial unix|PermissionError).*docker\.sock.*[Pp]ermission denied|PermissionError\(13",
        "This user may not talk to the Docker engine.",
        "sudo usermod -aG docker $USER, then log in again; or run as a user of the group docker.",
        anywhere=True,
    ),
    rule(
        "docker_context_missing",
        r"context \"?(?P<context>[^\":]+)\"?: context not found|context not found",
        "The Docker context {context} does not exist.",
        "docker context ls shows those that do; unset DOCKER_CONTEXT, or docker context use default.",
        anywhere=True,
    ),
    rule(
        "docker_daemon_down",
        r"no engine answers at|Cannot connect to the Docker daemon|Error while fetching server API version"
        r"|Is the docker daemon running|docker daemon is not running|error during connect:|FileNotFoundError\(2|Connection aborted",
        "No Docker engine answers.",
        "Start it (sudo systemctl start docker), or point DOCKER_HOST to the right socket; "
        "--vllm-launcher process needs none.",
        anywhere=True,
    ),
    rule(
        "docker_name_conflict",
        r"[Cc]onflict\. The container name \"/?(?P<name>[^\"]+)\" is already in use",
        "A container named {name} exists already.",
        "Remove the old one (docker rm -f {name}), or use another name.",
        anywhere=True,
    ),
    rule(
        "docker_port_in_use",
        r"port is already allocated|Bind for (?P<address>[\d.:]+) failed"
        r"|Error starting userland proxy.*address already in use|listen tcp4? (?P<listen>[\d.:]+): bind: address already in use"
        r"|failed to bind (?:host )?port .*address already in use",
        "The host port is taken.",
        "Use another one: docker run -p 127.0.0.1:0:8000 takes a free one, as the plugin always does; "
        "ss -ltnp and docker ps show who has it.",
        anywhere=True,
    ),
    rule(
        "docker_group_missing",
        r"[Uu]nable to find group (?P<group>[^:\s]*):? ?no matching entries in group file",
        "The group {group} does not exist in the image.",
        _GROUPS,
        anywhere=True,
    ),
    rule(
        "docker_user_missing",
        r"unable to find user (?P<user>[^:\s]+): no matching entries in passwd",
        "The user {user} does not exist in the image.",
        "Give the number: docker run --user $(id -u):$(id -g), with -e HOME=/tmp.",
        anywhere=True,
    ),
    rule(
        "docker_gpu_runtime_missing",
        r"could not select device driver"
        r"|nvidia-container-cli: initialization error",
        "Docker cannot hand out NVIDIA GPUs on this host.",
        "--gpus is for NVIDIA with the container toolkit. On AMD use --vllm-platform rocm "
        "(docker run --device=/dev/kfd --device=/dev/dri); on NVIDIA install nvidia-container-toolkit.",
        anywhere=True,
    ),
    rule(
        "docker_runtime_unknown",
        r"[Uu]nknown (?:or invalid )?runtime (?:specified |name: )?(?P<runtime>[\w.-]+)",
        "Docker knows no runtime called {runtime}.",
        "Install and register it (nvidia-container-toolkit, amd-container-toolkit), or drop --runtime: "
        "on AMD --device=/dev/kfd --device=/dev/dri is enough.",
        anywhere=True,
    ),
    rule(
        "gpu_device_missing",
        r"error gathering device information while adding custom device(?: \"(?P<device>[^\"]+)\")?",
        "{device} does not exist on this host.",
        "Load the driver (sudo modprobe amdgpu), or choose a device that exists (ls -l /dev/kfd /dev/dri; docker run --device=/dev/kfd --device=/dev/dri); "
        "without an AMD GPU use --vllm-platform cpu.",
        anywhere=True,
    ),
    rule(
        "docker_registry_unreachable",
        r"(?:Get \"https?://[^\"]+/v2/|failed to resolve reference).*(?:no such host|timeout|refused|unreachable|deadline|reset)"
        r"|net/http: (?:request canceled|TLS handshake timeout)|server misbehaving|i/o timeout",
        "The registry cannot be reached.",
        "Pull beforehand where there is a network (docker pull, docker save | docker load) and run with --vllm-pull never; "
        "--vllm-pull never is docker run --pull never; behind a proxy, the engine needs it too (/etc/systemd/system/docker.service.d/proxy.conf).",
        anywhere=True,
    ),
    rule(
        "docker_image_missing",
        r"The image (?P<ours>\S+) is not on this machine|No such image: (?P<image>\S+?)(?:[\"')]|$)|[Uu]nable to find image '(?P<wanted>[^']+)'"
        r"|pull access denied for (?P<denied>[^,\s]+)|manifest (?:for (?P<manifest>\S+) )?(?:not found|unknown)|repository does not exist",
        "The image is not there.",
        "Check name and tag (docker images), then docker pull it or build it; --vllm-image=IMAGE (docker run IMAGE) names another, "
        "--vllm-pull missing pulls what is not local. A private registry wants docker login.",
        anywhere=True,
    ),
    rule(
        "docker_image_reference_invalid",
        r"invalid reference format(?P<why>: [^\"]+)?",
        "The name of the image is malformed{why}.",
        "name[:tag], in lower case, with nothing empty: --vllm-image=vllm/vllm-openai-rocm:latest (docker run vllm/vllm-openai-rocm:latest). An empty tag often comes from an unset variable.",
        anywhere=True,
    ),
    rule(
        "docker_platform_mismatch",
        r"no matching manifest for (?P<platform>\S+)|does not match the (?:detected host|specified) platform|exec format error",
        "The image is built for another processor.",
        "Use an image for this machine: docker pull --platform linux/$(uname -m | sed s/x86_64/amd64/) IMAGE; vLLM's ROCm images exist for linux/amd64 only.",
        anywhere=True,
    ),
    rule(
        "docker_mount_source_missing",
        r"bind source path does not exist: (?P<path>[^\s\"]+)",
        "{path} does not exist on the host, so it cannot be mounted.",
        "mkdir -p {path}, or correct the path: --vllm-hf-cache=DIR, --vllm-model=DIR (docker run -v DIR:DIR:ro).",
        anywhere=True,
    ),
    rule(
        "docker_mount_invalid",
        r"[Dd]uplicate mount point: (?P<target>\S+)|error mounting|invalid mount (?:config|path)|invalid volume specification"
        r"|mount a directory onto a file|must be an absolute path|mount denied",
        "Docker cannot make this mount.",
        "docker run -v /absolute/source:/absolute/target:ro, each target once; source and target must both be folders or both files (ls -ld SOURCE).",
        anywhere=True,
    ),
    rule(
        "docker_network_missing",
        r"network (?P<network>\S+) not found|could not find .*network",
        "The Docker network {network} does not exist.",
        "docker network create {network}, or drop --network.",
        anywhere=True,
    ),
    rule(
        "docker_entrypoint_not_executable",
        r"exec: \"(?P<program>[^\"]+)\": permission denied|fork/exec (?P<path>\S+): permission denied",
        "{program} in the image may not be executed.",
        "chmod +x it in the Dockerfile, or name another program with --entrypoint.",
        anywhere=True,
    ),
    rule(
        "docker_entrypoint_missing",
        r"exec: \"(?P<program>[^\"]+)\": (?:executable file not found|stat )|exec (?P<path>\S+): no such file or directory",
        "The image has no program {program}.",
        "Give the whole command (docker run IMAGE vllm serve MODEL …) if the image has no server as its entrypoint (docker image inspect -f '{{.Config.Entrypoint}}' IMAGE); "
        "is it a vLLM image? The plugin finds out by itself for images that it starts.",
        anywhere=True,
    ),
    rule(
        "container_gone",
        r"No such container: (?P<container>[\w.-]+)(?=\"?\)?$)(?<!ipc)|removal of container \S+ is already in progress|is marked for removal",
        "The container {container} does not exist any more, and its log went with it.",
        "Do not use --rm (auto_remove) for a server that may have to be diagnosed; the plugin keeps it until the log is saved.",
        anywhere=True,
    ),
    rule(
        "disk_full",
        r"[Nn]o space left on device|disk quota exceeded",
        "The disk is full.",
        "docker system df shows what Docker holds, docker system prune gives back what nobody uses; a model cache moves with "
        "--vllm-hf-cache=DIR (docker run -v DIR:/root/.cache/huggingface).",
        anywhere=True,
    ),
    rule(
        "docker_option_invalid",
        r"Requested (?:CPUs|memory nodes) are not available(?: - requested \S+, available: (?P<available>[^\s\")]+))?"
        r"|conflicting options|cannot (?:join|specify)|opening seccomp profile|invalid (?:argument|containerPort|ulimit|IPC mode|publish|hostPort|size|value)"
        r"|unknown flag|Range of CPUs|[Mm]inimum memory limit|is not a valid|unknown (?:shorthand|log opt|capability)",
        "Docker does not accept one of the options.",
        "The sentence names it; correct or drop that option of docker run. CPUs and NUMA nodes must exist on this host (lscpu).",
        # A list such as 0-1, which is no number even where it is 0.
        lambda f: {"available": f["available"]} if f["available"] else {},
        anywhere=True,
    ),
)

#: A container that another option refers to, which reads like `container_gone` without being it.
IPC_MISSING = rule(
    "docker_option_invalid",
    r"^docker: Error response from daemon: No such container: (?P<container>\S+)$",
    "An option of docker run names a container that does not exist: {container}.",
    "Correct --ipc, --network, --pid or --volumes-from (docker ps -a shows the names); docker run --shm-size 16g replaces --ipc.",
    anywhere=True,
)
