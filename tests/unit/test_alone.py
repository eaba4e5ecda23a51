"""One or many: the lock of a server across processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from pytest_vllm.alone import Room

HOLD = """
import sys
from pathlib import Path
from pytest_vllm.alone import Room
stay = Room(Path(sys.argv[1]), "a").enter(alone=True)
print("inside", flush=True)
sys.stdin.read()
"""


def entering(room: Room, *, alone: bool) -> tuple[threading.Thread, threading.Event]:
    """Enter and leave on a thread; the event says that it was inside."""
    inside = threading.Event()

    def stay() -> None:
        with room.enter(alone=alone):
            inside.set()

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    return thread, inside


def test_many_share_a_server(tmp_path: Path) -> None:
    room = Room(tmp_path, "a")
    with room.enter(alone=False), room.enter(alone=False):
        pass


def test_who_is_alone_waits_until_all_have_left(tmp_path: Path) -> None:
    room = Room(tmp_path, "a")
    with room.enter(alone=False):
        thread, inside = entering(room, alone=True)
        assert not inside.wait(0.1)
    thread.join(10)
    assert inside.is_set()


def test_nobody_enters_while_one_is_alone(tmp_path: Path) -> None:
    room = Room(tmp_path, "a")
    with room.enter(alone=True):
        thread, inside = entering(room, alone=False)
        assert not inside.wait(0.1)
    thread.join(10)
    assert inside.is_set()


def test_nobody_overtakes_who_waits_to_be_alone(tmp_path: Path) -> None:
    room = Room(tmp_path, "a")
    with room.enter(alone=False):
        first, alone = entering(room, alone=True)
        assert not alone.wait(0.1)  # it holds the turnstile by now
        second, shared = entering(room, alone=False)
        assert not shared.wait(0.1)
    first.join(10)
    second.join(10)
    assert shared.is_set()


def test_another_server_is_another_room(tmp_path: Path) -> None:
    with Room(tmp_path, "a").enter(alone=True), Room(tmp_path, "b").enter(alone=True):
        pass


def test_what_a_dead_process_held_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"inside\n"
        holder.kill()
        thread, inside = entering(Room(tmp_path, "a"), alone=True)
        assert inside.wait(10)
        thread.join(10)
