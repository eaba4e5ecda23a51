"""GPUs: not seen, not permitted, the wrong kind, hung, and kernels that do not exist for them."""

from __future__ import annotations

from pytest_vllm.diagnosis.rules.rule import Rule, rule

_PASS = "--vllm-platform rocm passes them (docker run --device=/dev/kfd --device=/dev/dri --group-add $(getent group render | cut -d: -f3) --group-add $(getent group video | cut -d: -f3))"
_IMAGE = (
    "Use an image built for this GPU (rocminfo | grep gfx shows which): --vllm-image=vllm/vllm-openai-rocm:latest "
    "(docker run vllm/vllm-openai-rocm:latest) or rocm/vllm:latest have kernels for gfx90a, gfx942, gfx950, gfx1100 and gfx1201. "
    "Hide an integrated GPU: --vllm-env HIP_VISIBLE_DEVICES=0. A close relative of a supported GPU may do with "
    "HSA_OVERRIDE_GFX_VERSION=11.0.0 (gfx1101 to gfx1103)."
)

RULES: tuple[Rule, ...] = (
    rule(
        "gpu_hang",
        r"HW Exception by GPU node.*GPU Hang|GPU Hang|GPU reset|MES failed|HSA_STATUS_ERROR(?!_INVALID_ISA|_MEMORY_APERTURE)|HSA_STATUS_ERROR_EXCEPTION|ring .* timeout",
        "The GPU hung and was reset.",
        "sudo dmesg | grep -i amdgpu shows why: update kernel, amdgpu driver and linux-firmware; look at RAS errors (rocm-smi --showrasinfo all). --vllm-arg=--enforce-eager often gets past it.",
        anywhere=True,
    ),
    rule(
        "gpu_memory_access_fault",
        r"Memory access fault by GPU node|an illegal memory access was encountered|(?:hip|cuda)ErrorIllegalAddress|unspecified launch failure|device-side assert triggered|HSA_STATUS_ERROR_MEMORY_APERTURE_VIOLATION",
        "A kernel on the GPU touched memory that it may not.",
        "Leave out one suspect after the other: --vllm-env VLLM_ROCM_USE_AITER=0, --vllm-arg=--enforce-eager, another attention backend (--vllm-arg=--attention-backend=TRITON_ATTN), then another image (--vllm-image=IMAGE; docker run IMAGE).",
        anywhere=True,
    ),
    rule(
        "unsupported_gpu_arch",
        r"invalid device function|hipErrorNoBinaryForGpu|no kernel image is available|kernel image is invalid|hipErrorInvalidImage|hipErrorInvalidKernelFile|cudaErrorInvalidKernelImage|Unable to find code object for all current devices|HSA_STATUS_ERROR_INVALID_ISA|[Uu]nsupported (?:gpu|GPU) arch|TensileLibrary\S*.*(?:GPU arch|[Nn]o such file|Illegal seek)|sm_\d+ is not compatible with the current PyTorch|is not in the list of supported architectures|not supported on gfx(?P<arch>\w+)|Arch not supported",
        "The image has no kernels for this GPU.",
        _IMAGE,
        anywhere=True,
    ),
    rule(
        "gpu_too_old",
        r"has compute capability (?P<capability>[3-6]\.\d)|compute capability (?:at least )?[\d.]+.*(?:old|required)|GPU .* too old|which is of cuda capability",
        "This GPU is older than vLLM supports.",
        "Use a newer GPU (vLLM's CUDA build wants compute capability 7.0), or --vllm-platform cpu (docker run vllm/vllm-openai-cpu:latest).",
        anywhere=True,
    ),
    rule(
        "dtype_unsupported",
        r"Bfloat16 is only supported on GPUs(?:.*has compute capability (?P<capability>[\d.]+\d))?|bfloat16 is not supported|dtype .* is not supported",
        "This GPU cannot compute in this number format.",
        "--vllm-dtype float16 (vllm serve --dtype float16, the same as half).",
        anywhere=True,
    ),
    rule(
        "gpu_visibility_conflict",
        r"invalid device ordinal|hipErrorInvalidDevice|ROCR_VISIBLE_DEVICES.*(?:conflict|HIP_VISIBLE)|Inconsistent values? .*VISIBLE_DEVICES|HIP_VISIBLE_DEVICES.*(?:conflict|does not match)",
        "Several variables choose GPUs, and contradict each other.",
        "unset ROCR_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES, and choose with --vllm-env HIP_VISIBLE_DEVICES=0,1 only: each counts within what the one before left. With Ray: RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES=1.",
        anywhere=True,
    ),
    rule(
        "gpu_device_permission",
        r"(?:Unable to open|open) /dev/kfd.*[Pp]ermission denied|/dev/kfd.*[Pp]ermission|/dev/dri\S*.*[Pp]ermission denied|is not (?:a )?member of.*(?:render|video)",
        "The container's user may not use the GPU's device files.",
        "Add the numeric groups that own them (ls -ln /dev/kfd /dev/dri/renderD*): " + _PASS + ".",
        anywhere=True,
    ),
    rule(
        "gpu_device_missing",
        r"Unable to open /dev/kfd|/dev/kfd(?: does not exist|.*No such file)|/dev/dri/\S+.*No such file",
        "The container does not have the GPU's device files.",
        _PASS + "; on the host: ls -l /dev/kfd, sudo modprobe amdgpu.",
        anywhere=True,
    ),
    rule(
        "wrong_image_for_gpu",
        r"lib(?:cuda|cudart|nvrtc|cublas)[\w-]*\.so[.\d]*: cannot open shared object file|Found no NVIDIA driver|Torch not compiled with CUDA enabled|libcuda\.so\.1",
        "This is a build for NVIDIA, and there is no NVIDIA driver.",
        "On AMD use a ROCm image: --vllm-platform rocm --vllm-image=vllm/vllm-openai-rocm:latest (docker run vllm/vllm-openai-rocm:latest, or rocm/vllm); without a GPU --vllm-platform cpu.",
        anywhere=True,
    ),
    rule(
        "no_gpu_detected",
        r"Failed to infer device type|No HIP GPUs are available|No CUDA GPUs are available|no ROCm-capable device|hipErrorNoDevice|Device string must not be empty|Unexpected error from (?:hip|cuda)GetDeviceCount|Can't initialize NVML|amdsmi.*(?:not found|failed)|HIP error: no ",
        "vLLM sees no GPU.",
        "Hand them to the container: "
        + _PASS
        + ". Check on the host with rocm-smi; a build for another platform (pip's default wheel is CUDA's) sees none either.",
        anywhere=True,
    ),
    rule(
        "triton_out_of_resources",
        r"out of resource: shared memory, Required: (?P<required>\d+), Hardware limit: (?P<limit>\d+)",
        "A Triton kernel needs more local memory than this GPU has ({required} bytes, there are {limit}).",
        "Try another attention backend or --vllm-env VLLM_USE_TRITON_FLASH_ATTN=0, a smaller block (--vllm-arg=--block-size=16), or a newer image (--vllm-image=IMAGE; docker run IMAGE).",
        anywhere=True,
    ),
    rule(
        "triton_compile_failed",
        r"triton\.compiler\.errors|CompilationError|PassManager::run failed|LLVM ERROR|failed to legalize operation",
        "Triton could not compile a kernel for this GPU.",
        "Use an image whose Triton supports it (--vllm-image=IMAGE; docker run IMAGE), after rm -r ~/.triton/cache; --vllm-arg=--attention-backend=ROCM_ATTN may do without. --enforce-eager does not help here.",
        anywhere=True,
    ),
    rule(
        "aiter_failure",
        r"\baiter\b.*(?:Error|failed|not found|cannot|No module|error)|(?:ImportError|ModuleNotFoundError|RuntimeError|KeyError|AttributeError).*\baiter\b|module_\w+\.so.*undefined symbol.*aiter",
        "AMD's kernel library AITER failed.",
        "--vllm-env VLLM_ROCM_USE_AITER=0 (docker run -e VLLM_ROCM_USE_AITER=0) goes without it; else clear its cache (rm -r ~/.aiter/jit) or use an image with a matching AITER.",
        anywhere=True,
    ),
    rule(
        "flash_attn_missing",
        r"No module named '(?P<module>flash_attn[\w.]*|vllm_flash_attn[\w.]*)'|FlashAttention.*(?:not installed|is not available|could not be imported)|cannot import name '\w+' from 'flash_attn",
        "The image lacks FlashAttention.",
        "Use an official image (--vllm-image=vllm/vllm-openai-rocm:latest; docker run vllm/vllm-openai-rocm:latest), or pip install flash-attn for this GPU; or another backend: --vllm-arg=--attention-backend=TRITON_ATTN.",
        anywhere=True,
    ),
    rule(
        "rccl_p2p_hang",
        r"(?:NCCL|RCCL).*(?:watchdog|timeout|timed out)|collective operation timeout|ncclCommInitRank.*hang",
        "The GPUs do not get to talk to each other.",
        "--vllm-env NCCL_P2P_DISABLE=1 and --vllm-arg=--disable-custom-all-reduce; iommu=pt on the kernel command line; NCCL_DEBUG=INFO says more.",
        anywhere=True,
    ),
    rule(
        "kv_cache_dtype_conflict",
        r"kv.?cache.?dtype.*(?:not supported|conflict|mismatch|invalid|incompatible)|fp8_e5m2 kv-cache is not supported",
        "This format of the KV cache does not go with the model.",
        "--vllm-arg=--kv-cache-dtype=auto, or fp8_e4m3.",
        anywhere=True,
    ),
    rule(
        "nccl_error",
        r"(?:NCCL|RCCL|nccl\w*) [Ee]rror|NCCL_ERROR_|NcclError|ncclSystemError|ncclUnhandledCudaError|ncclInternalError|ncclInvalidUsage|DistBackendError",
        "The GPUs' communication library failed.",
        "Most often shared memory is too small: docker run --shm-size 16g, or --ipc=host, which the plugin gives by itself. --vllm-env NCCL_DEBUG=INFO shows the real cause.",
        anywhere=True,
    ),
)
