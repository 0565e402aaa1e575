"""What ranks do together, between real processes: over shared memory and over gloo."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from orcinus.errors import ConfigError, EngineError
from orcinus.runtime.parallel import shared_memory
from orcinus.runtime.parallel.collectives import ALONE, Collectives
from orcinus.runtime.parallel.join import MeshCollectives, join
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.parallel.rendezvous import FileRendezvous, Rendezvous, TcpRendezvous, rendezvous_at
from orcinus.runtime.parallel.shared_memory import CAPACITY, SharedMemoryGroup, size_of
from orcinus.runtime.parallel.shared_memory_kernel import LINE
from orcinus.runtime.parallel.torch_collectives import TorchGroup
from tests.rank_processes import CPU, RankProcesses, bits_of
from tests.threads_mesh import run_ranks
from tests.waiting import within

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = [(1, 1), (3, 7), (8, 1024), (1, CAPACITY // 4), (5, CAPACITY // 10 + 3), (0, 16)]
WIDTHS = {2: [(5, 3), (0, 4), (CAPACITY + 1, 17)], 3: [(1, 2, 3), (4, 0, 4), (7, CAPACITY // 2 + 1, 5)]}
TRANSPORTS = pytest.mark.parametrize("share", [True, False], ids=["shared memory", "gloo"])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankProcesses]:
    processes = RankProcesses(4, tmp_path_factory.mktemp("ranks"))
    yield processes
    processes.close()


def made(rank: int, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Numbers of very different sizes: their sum depends on the order."""
    random = torch.Generator().manual_seed(rank)
    sizes = 10.0 ** torch.randint(-3, 3, (rows, columns), generator=random)
    return (torch.randn(rows, columns, generator=random) * sizes).to(dtype)


def summed(place: MeshPlace, collectives: Collectives, dtype: torch.dtype) -> list[bytes]:
    return [bits_of(collectives.all_reduce(made(place.rank, *shape, dtype))) for shape in SHAPES]


@TRANSPORTS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tp", [2, 3])
def test_a_sum_is_in_float32_in_the_order_of_the_ranks_on_all_of_them(
    ranks: RankProcesses, tp: int, dtype: torch.dtype, share: bool
) -> None:
    expected = []
    for shape in SHAPES:
        total = made(0, *shape, dtype).float()
        for rank in range(1, tp):
            total = total + made(rank, *shape, dtype).float()
        expected.append(bits_of(total.to(dtype)))
    assert ranks.run(Mesh(tp=tp), summed, dtype, share=share) == [expected] * tp


def gathered(place: MeshPlace, collectives: Collectives, dtype: torch.dtype, widths: Sequence[int]) -> bytes:
    return bits_of(collectives.all_gather(made(place.rank, 3, widths[place.tensor], dtype), widths))


@TRANSPORTS
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tp", [2, 3])
def test_rows_are_put_side_by_side(ranks: RankProcesses, tp: int, dtype: torch.dtype, share: bool) -> None:
    for widths in WIDTHS[tp]:
        expected = bits_of(torch.cat([made(rank, 3, width, dtype) for rank, width in enumerate(widths)], dim=1))
        assert ranks.run(Mesh(tp=tp), gathered, dtype, widths, share=share) == [expected] * tp


def in_place(place: MeshPlace, collectives: Collectives) -> tuple[bool, list[float]]:
    whole = torch.zeros(4, 6)
    columns = whole[:, ::2]
    columns += place.rank + 1
    result = collectives.all_reduce(columns)
    return result is columns, whole[1].tolist()


@TRANSPORTS
def test_a_sum_is_in_place_even_of_every_other_column(ranks: RankProcesses, share: bool) -> None:
    assert ranks.run(Mesh(tp=2), in_place, share=share) == [(True, [3, 0, 3, 0, 3, 0])] * 2


def piped(place: MeshPlace, collectives: Collectives) -> list[tuple[str, float]]:
    """Three batches of two tensors each: the first stage sends them all before the next receives one."""
    shapes = [((batch + 1, 8), dtype) for batch in range(3) for dtype in (torch.float32, torch.bfloat16)]
    found = []
    for number, (shape, dtype) in enumerate(shapes):
        if place.first:
            x = torch.full(shape, 100.0 * place.tensor + number, dtype=dtype)
        else:
            x = collectives.recv(shape, dtype)
            found.append((str(x.dtype), x[-1, -1].item()))
        if not place.last:
            collectives.send(x)
            x.zero_()  # what was sent is a copy
    return found


@pytest.mark.parametrize("mesh", [Mesh(pp=2), Mesh(pp=3), Mesh(tp=2, pp=2)], ids=str)
def test_hidden_states_go_from_stage_to_stage_and_stay_on_their_tensor_rank(ranks: RankProcesses, mesh: Mesh) -> None:
    for place, found in zip(map(mesh.at, range(mesh.size)), ranks.run(mesh, piped), strict=True):
        expected = [(("torch.float32", "torch.bfloat16")[n % 2], 100.0 * place.tensor + n) for n in range(6)]
        assert found == ([] if place.first else expected)


def both(place: MeshPlace, collectives: Collectives) -> float:
    x = torch.full((2, 2), 1.0 + place.tensor) if place.first else collectives.recv((2, 2), torch.float32)
    collectives.all_reduce(x)
    if not place.last:
        collectives.send(x)
    return x[0, 0].item()


@TRANSPORTS
def test_stages_sum_among_themselves(ranks: RankProcesses, share: bool) -> None:
    assert ranks.run(Mesh(tp=2, pp=2), both, share=share) == [3, 3, 6, 6]


def memory_of(place: MeshPlace, collectives: Collectives) -> tuple[int, str]:
    assert isinstance(collectives, MeshCollectives)
    return Path("/proc/self/maps").read_text().count("memfd:orcinus"), type(collectives.ranks).__name__


def closed(place: MeshPlace, collectives: Collectives) -> str:
    collectives.close()
    try:
        collectives.all_reduce(torch.zeros(1))
    except EngineError as error:
        return str(error)
    return ""


def test_memory_is_shared_by_tensor_ranks_only_has_no_name_and_is_given_back(ranks: RankProcesses) -> None:
    files = set(os.listdir("/dev/shm"))
    before = [count for count, _ in ranks.run(Mesh(pp=2), memory_of)]
    assert ranks.run(Mesh(pp=2), memory_of, to="new") == [(count, "Alone") for count in before]
    assert ranks.run(Mesh(tp=2), memory_of, to="new") == [(count + 1, "SharedMemoryGroup") for count in before]
    assert not {name for name in set(os.listdir("/dev/shm")) - files if "orcinus" in name}
    assert ranks.run(Mesh(tp=2), closed, to="new") == ["the collectives are closed"] * 2
    assert [count for count, _ in ranks.run(Mesh(pp=2), memory_of)] == before


def late(place: MeshPlace, collectives: Collectives, action: str) -> str:
    """Rank 1 stays away; what rank 0 hears, and whether it hears it again."""
    if place.rank == 1:
        return ""
    with pytest.raises(EngineError) as first:
        act(collectives, action)
    with within(10), pytest.raises(EngineError):
        act(collectives, action)
    return str(first.value)


def act(collectives: Collectives, action: str) -> None:
    match action:
        case "all_reduce":
            collectives.all_reduce(torch.zeros(2, 2))
        case "all_gather":
            collectives.all_gather(torch.zeros(2, 2), [2, 2])
        case "send":
            for _ in range(10):  # more than may be on their way
                collectives.send(torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("mesh", "action", "share"),
    [
        (Mesh(tp=2), "all_reduce", True),
        (Mesh(tp=2), "all_gather", False),
        (Mesh(pp=2), "send", False),
    ],
    ids=["shared memory", "gloo", "stages"],
)
def test_a_rank_that_does_not_come_is_told_in_time(ranks: RankProcesses, mesh: Mesh, action: str, share: bool) -> None:
    with within(30):
        told = ranks.run(mesh, late, action, share=share, timeout_s=1)[0]
    assert "within 1 s" in told
    assert "\n" not in told


def killed(place: MeshPlace, collectives: Collectives, action: str) -> str:
    """Rank 1 dies while rank 0 waits for it; what rank 0 hears."""
    if place.tensor == 1 or (place.mesh.tp == 1 and place.first):
        os.kill(os.getpid(), 9)
    try:
        collectives.recv((2, 2), torch.float32) if action == "recv" else act(collectives, action)
    except EngineError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("mesh", "action", "share", "survivor"),
    [
        (Mesh(tp=2), "all_reduce", True, 0),
        (Mesh(tp=2), "all_reduce", False, 0),
        (Mesh(pp=2), "recv", False, 1),
    ],
    ids=["shared memory", "gloo", "stages"],
)
def test_a_rank_that_is_killed_is_told_before_the_time_is_over(
    ranks: RankProcesses, mesh: Mesh, action: str, share: bool, survivor: int
) -> None:
    with within(90):
        told = ranks.run(mesh, killed, action, share=share, timeout_s=100)
    assert told[1 - survivor] is None
    assert "gone" in told[survivor]
    assert "\n" not in told[survivor]


def test_ranks_that_never_start_are_named(tmp_path: Path) -> None:
    with within(30), pytest.raises(EngineError, match=r"rank 0 waited 0\.2 s for ranks 1, 2, 3 of 4"):
        join(Mesh(tp=2, pp=2).at(0), CPU, FileRendezvous(tmp_path / "here"), 0.2)


def test_one_device_meets_nobody(tmp_path: Path) -> None:
    assert join(Mesh().at(0), CPU, FileRendezvous(tmp_path / "not there" / "here"), 0.2) is ALONE


def test_a_folder_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not there"):
        join(Mesh(pp=2).at(0), CPU, FileRendezvous(tmp_path / "not there" / "here"), 0.2)


def joined_by_threads(mesh: Mesh, rendezvous: Sequence[Rendezvous]) -> list[Collectives]:
    """All ranks join from threads of this process."""
    with ThreadPoolExecutor(mesh.size) as pool:
        return list(pool.map(lambda rank: join(mesh.at(rank), CPU, rendezvous[rank], 20.0), range(mesh.size)))


def test_ranks_meet_at_a_socket_that_rank_0_has_bound() -> None:
    bound = TcpRendezvous.listen("127.0.0.1")
    mesh = Mesh(tp=2, pp=2)
    ranks = joined_by_threads(mesh, [bound, *[rendezvous_at(bound.address)] * 3])
    found = run_ranks(mesh, lambda place, _: both(place, ranks[place.rank]))
    for collectives in ranks:
        collectives.close()
    assert found == [3, 3, 6, 6]


def test_nobody_answers_at_the_address_of_rank_0() -> None:
    bound = TcpRendezvous.listen("127.0.0.1")
    assert bound.listener is not None
    os.close(bound.listener)
    with within(30), pytest.raises(EngineError, match=f"cannot reach rank 0 at tcp://127.0.0.1:{bound.port}"):
        join(Mesh(pp=2).at(1), CPU, rendezvous_at(bound.address), 0.5)


@pytest.mark.parametrize(
    ("host", "problem"), [("0.0.0.0", "name an address of this machine"), ("192.0.2.1", "cannot listen on 192.0.2.1")]
)
def test_rank_0_listens_on_an_address_of_its_own(host: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        TcpRendezvous.listen(host)


@pytest.mark.parametrize(
    "rendezvous", [FileRendezvous(Path("/a folder/here")), TcpRendezvous("10.0.0.1", 80), TcpRendezvous("::1", 65535)], ids=str
)
def test_addresses_are_read_as_they_are_told(rendezvous: Rendezvous) -> None:
    assert rendezvous_at(rendezvous.address) == rendezvous


@pytest.mark.parametrize("address", ["", "file:here", "tcp://host", "tcp://host:many", "http://host:80"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="give file:/PATH or tcp://HOST:PORT"):
        rendezvous_at(address)


@pytest.mark.parametrize("reason", ["other machines", "memory cannot be opened", "there is none"])
def test_ranks_that_cannot_share_memory_use_gloo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    machines = iter(range(10))
    if reason == "other machines":
        monkeypatch.setattr(shared_memory, "_machine", lambda: f"machine-{next(machines)}")
    elif reason == "memory cannot be opened":
        monkeypatch.setattr(shared_memory, "_open", lambda where: None)
    else:
        monkeypatch.setattr(shared_memory, "_make", lambda size: None)
    ranks = joined_by_threads(Mesh(tp=2), [FileRendezvous(tmp_path / "here")] * 2)
    for collectives in ranks:
        assert isinstance(collectives, MeshCollectives)
        assert isinstance(collectives.ranks, TorchGroup)
        collectives.close()


class LastAct:
    """A rank that gives its part at the last moment and is gone."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    def is_gone(self) -> bool:
        slots = np.frombuffer(self._memory, np.float32, offset=2 * LINE).reshape(2, 2, -1)
        slots[1, 1, :4] = 2.0
        np.frombuffer(self._memory, np.int64)[LINE // 8] = 1
        return True


def test_a_part_that_was_given_before_its_rank_ended_still_counts() -> None:
    memory = mmap.mmap(-1, size_of(2))
    group = SharedMemoryGroup(Mesh(tp=2).at(0), memory, [os.getpid()] * 2, timeout_s=10)
    group._peers[1] = LastAct(memory)  # type: ignore[assignment]
    assert group.all_reduce(torch.ones(2, 2)).tolist() == [[3, 3], [3, 3]]
    with pytest.raises(EngineError, match="rank 0 cannot go on, rank 1 is gone"):
        group.all_reduce(torch.ones(2, 2))
