import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed as dist

from datamodules.in_memory_loader import InMemoryLoader, SeededOrder, seeded_generator

SEEDS = st.integers(0, 2**32)


def numbers(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples that contain their own index, twice."""
    return torch.arange(count), torch.arange(count) * 10


def one_epoch(loader: InMemoryLoader, epoch: int = 0) -> list[list[int]]:
    loader.sampler.set_epoch(epoch)
    return [batch[0].tolist() for batch in loader]


@settings(deadline=None, max_examples=30)
@given(length=st.integers(1, 200), seed=SEEDS, epoch=st.integers(0, 1000))
def test_order_is_a_permutation_that_depends_on_seed_and_epoch_alone(length: int, seed: int, epoch: int) -> None:
    order, later = SeededOrder(length, True, seed), SeededOrder(length, True, seed)
    for earlier in range(3):  # another history
        later.set_epoch(earlier)
        later.indices()
    torch.rand(5)  # another state of the global generator
    order.set_epoch(epoch)
    later.set_epoch(epoch)

    assert torch.equal(order.indices(), later.indices())
    assert sorted(order.indices().tolist()) == list(range(length))


def test_epochs_and_seeds_differ_from_each_other() -> None:
    orders = set()
    for seed in range(4):
        order = SeededOrder(50, True, seed)
        for epoch in range(4):
            order.set_epoch(epoch)
            orders.add(tuple(order.indices().tolist()))

    assert len(orders) == 16


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=SEEDS,
)
def test_an_epoch_yields_each_sample_once_in_rows_that_belong_together(
    count: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int
) -> None:
    if drop_last and batch_size > count:
        with pytest.raises(ValueError, match=f"between 1 and {count}"):
            InMemoryLoader(numbers(count), batch_size, shuffle, seed, drop_last)
        return
    loader = InMemoryLoader(numbers(count), batch_size, shuffle, seed, drop_last)
    batches = list(loader)

    assert len(batches) == len(loader)
    assert all(torch.equal(first * 10, second) for first, second in batches)
    assert all(len(first) == batch_size for first, _ in batches[: None if drop_last else -1])
    seen = torch.cat([first for first, _ in batches]).tolist()
    assert len(set(seen)) == len(seen) == (count // batch_size * batch_size if drop_last else count)
    if not shuffle:
        assert seen == sorted(seen)


def test_batch_size_below_one_is_rejected() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, but got batch_size=0"):
        InMemoryLoader(numbers(3), 0)


def test_transform_draws_numbers_that_depend_on_seed_epoch_and_batch() -> None:
    def noise(first: torch.Tensor, second: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return (torch.rand(len(first), generator=generator),)

    def drawn(seed: int, epoch: int) -> list[list[float]]:
        return one_epoch(InMemoryLoader(numbers(8), 4, seed=seed, transform=noise), epoch)

    assert drawn(1, 2) == drawn(1, 2)
    assert drawn(1, 2) != drawn(2, 2)
    assert drawn(1, 2) != drawn(1, 1)
    first, second = drawn(1, 2)
    assert first != second


def test_an_iteration_created_before_set_epoch_uses_the_epoch_set() -> None:
    # Lightning's order of calls at the start of fit.
    loader = InMemoryLoader(numbers(20), 5, shuffle=True)
    iterator = iter(loader)
    loader.sampler.set_epoch(7)

    assert [batch[0].tolist() for batch in iterator] == one_epoch(loader, 7)


def test_a_restored_loader_resumes_within_the_epoch_and_then_starts_over() -> None:
    loader = InMemoryLoader(numbers(20), 5, shuffle=True, seed=3)
    whole, following = one_epoch(loader, 1), one_epoch(loader, 2)
    loader.sampler.set_epoch(1)
    iterator = iter(loader)
    next(iterator), next(iterator)

    resumed = InMemoryLoader(numbers(20), 5, shuffle=True, seed=3)
    resumed.load_state_dict(loader.state_dict())

    assert one_epoch(resumed, 1) == whole[2:]
    assert one_epoch(resumed, 2) == following


def test_a_position_at_the_end_of_an_epoch_means_the_start_of_the_next() -> None:
    loader = InMemoryLoader(numbers(20), 5)
    iterator = iter(loader)
    for _ in range(4):  # like Lightning, which counts batches and never requests one after the last
        next(iterator)

    resumed = InMemoryLoader(numbers(20), 5)
    resumed.load_state_dict(loader.state_dict())

    assert len(one_epoch(resumed)) == 4


@pytest.mark.parametrize("drop_last", [True, False])
def test_two_ranks_see_together_the_batches_of_one_process(monkeypatch: pytest.MonkeyPatch, drop_last: bool) -> None:
    alone = one_epoch(InMemoryLoader(numbers(27), 8, True, 5, drop_last), epoch=2)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    of_rank = []
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        of_rank.append(one_epoch(InMemoryLoader(numbers(27), 4, True, 5, drop_last), epoch=2))

    assert [first + second for first, second in zip(*of_rank, strict=True)] == alone


def test_seeded_generator_mixes_its_numbers() -> None:
    def draw(*entropy: int) -> float:
        return torch.rand((), generator=seeded_generator(*entropy), dtype=torch.float64).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(0, 1), draw(1, 0), draw(0, 0), draw(1, 1), draw(0, 0, 1)}) == 5


@settings(deadline=None, max_examples=40)
@given(
    batch_size=st.integers(1, 9),
    seeds=st.lists(SEEDS, min_size=1, max_size=3),
    taken=st.integers(1, 4),
    count=st.integers(1, 4),
    after=st.integers(0, 3),
    kind=st.sampled_from(["rows", "samplewise", "drawn", "other tensors"]),
)
def test_upcoming_batches_can_be_fetched_at_once_and_skipped(
    batch_size: int, seeds: list[int], taken: int, count: int, after: int, kind: str
) -> None:
    def noise(first: torch.Tensor, second: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return first + (torch.rand(len(first), generator=generator) if kind == "drawn" else 0.5), second

    def loader(place: int) -> InMemoryLoader:
        tensors = shared if kind != "other tensors" else numbers(100 + place)
        transform = None if kind in ("rows", "other tensors") else noise
        return InMemoryLoader(
            tensors, batch_size, True, seeds[place], True, transform=transform, samplewise=kind == "samplewise"
        )

    shared = numbers(100)
    expected = [list(loader(place)) for place in range(len(seeds))]
    loaders = [loader(place) for place in range(len(seeds))]
    passes = [iter(each) for each in loaders]
    for each in passes:
        for _ in range(taken):
            next(each)
    first, second = passes[0].upcoming(passes, count, after)
    assert first.shape == second.shape == (count, len(seeds), batch_size)
    for step in range(count):
        for place, batches in enumerate(expected):
            assert torch.equal(first[step, place], batches[taken + after + step][0])
            assert torch.equal(second[step, place], batches[taken + after + step][1])
    for place, each in enumerate(passes):
        assert torch.equal(next(each)[0], expected[place][taken][0]), "looking ahead does not advance"
        each.skip(count)
        assert loaders[place].state_dict() == {"next_batch": taken + 1 + count}
        assert torch.equal(next(each)[0], expected[place][taken + 1 + count][0])


def test_ranks_draw_different_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(first: torch.Tensor, second: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return (torch.rand(len(first), generator=generator),)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    drawn = []
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        drawn += [tuple(batch) for batch in one_epoch(InMemoryLoader(numbers(16), 4, transform=noise))]
    assert len(set(drawn)) == 4, "two batches of each of two ranks"


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=100)
def test_batches_of_groups_hold_one_group_and_no_sample_twice(sizes: list[int], batch_size: int, seed: int) -> None:
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))]
    tensors = (torch.arange(len(groups)),)
    if max(sizes) < batch_size:
        with pytest.raises(ValueError, match=f"the largest group, but got batch_size={batch_size}"):
            InMemoryLoader(tensors, batch_size, groups=groups)
        return
    loader = InMemoryLoader(tensors, batch_size, seed=seed, groups=groups)
    batches = [samples for (samples,) in loader]
    assert len(batches) == len(loader) == sum(size // batch_size for size in sizes)
    assert all(len(samples) == batch_size and len(groups[samples].unique()) == 1 for samples in batches)
    assert len(torch.cat(batches).unique()) == len(batches) * batch_size


def test_batches_of_groups_are_others_in_each_epoch() -> None:
    groups = torch.arange(300) % 3
    loader = InMemoryLoader((torch.arange(300),), 7, groups=groups)
    first, again = (torch.cat([samples for (samples,) in loader]) for _ in range(2))
    loader.sampler.set_epoch(1)
    second = torch.cat([samples for (samples,) in loader])
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert set(first.tolist()) != set(second.tolist()), "left-out samples change"
