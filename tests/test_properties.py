"""Properties that hold for any size, mode, split, shard and photo, not only for the examples of the other tests."""
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_course.blocks import DOWNSAMPLE, UPSAMPLE
from unet_course.support.arguments import shard
from unet_course.data import Pets, batches, course_split, epoch_order, published_split
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import FACTORIAL, PROTOCOLS, RunConfig, Setting, make_configs, parse_variants
from unet_course.runs.run_folder import differences
from unet_course.factory import create_model
from unet_course.losses import LOSSES
from unet_course.prediction import Segmenter, save_weights

few = settings(max_examples=25, deadline=None)
many = settings(max_examples=60, deadline=None)
modes = st.tuples(st.sampled_from(sorted(DOWNSAMPLE)), st.sampled_from(sorted(UPSAMPLE)))


def model_of(mode, **config): return create_model(dict(base_width=2, downsample_mode=mode[0], upsample_mode=mode[1]) | config, seed=0)


# Shapes and modes.

@few
@given(modes, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 50), st.integers(1, 50))
def test_any_network_answers_any_image_in_its_size(mode, depth, batch, channels, classes, height, width):
    model = model_of(mode, depth=depth, in_channels=channels, out_channels=classes).eval()
    with torch.no_grad(): logits = model(torch.rand(batch, channels, height, width))
    assert logits.shape == (batch, classes, height, width) and logits.isfinite().all()


@few
@given(modes, st.integers(1, 3), st.integers(1, 6), st.integers(32, 1024))
def test_weights_come_back_as_they_went(mode, depth, width, size):
    model = model_of(mode, depth=depth, base_width=width)
    with tempfile.TemporaryDirectory() as folder:
        save_weights(Path(folder, 'best.pth'), model.state_dict(), dict(model=model.config, size=size))
        loaded = Segmenter.load(Path(folder, 'best.pth'))
    assert loaded.model.config == model.config and loaded.config['size'] == loaded.size == size
    assert all(torch.equal(v, loaded.model.state_dict()[k]) for k, v in model.state_dict().items())




# Splits, orders and shards. The pets have one pixel: only their names, breeds and split matter here.

def make_pets(n, breeds, test, source):
    breeds, test = [torch.tensor([values[i % len(values)] for i in range(n)]) for values in (breeds, test)]
    return Pets(torch.zeros(n, 1, 1, 3, dtype=torch.uint8).permute(0, 3, 1, 2), torch.ones(n, 1, 1, dtype=torch.uint8), [f'pet_{i * 7919 % 10007}' for i in range(n)], breeds, test.bool(), source)


pets = st.builds(make_pets, st.integers(3, 300), st.lists(st.integers(1, 37), min_size=1, max_size=11), st.lists(st.booleans(), min_size=1, max_size=7), st.sampled_from(['pets', 'synthetic']))


@many
@given(pets, st.floats(0.02, 0.7), st.integers(0, 2**31))
def test_splits_are_disjoint_whole_and_repeatable(pets, fraction, seed):
    try: split, again = (course_split(pets, fraction, seed) for _ in range(2))
    except ValueError as error:  # too few for both parts
        few = len(pets) if pets.source == 'synthetic' else int((~pets.test).sum())
        assert 'to train with' in str(error) and few < max(1 / fraction + 1e-6, 9)
        return
    assert all(torch.equal(split[part], again[part]) for part in split)
    together = torch.cat([split[part] for part in ('train', 'val', 'test')])
    assert len(split['train']) and len(split['val']) and together.sort().values.tolist() == list(range(len(pets)))
    if pets.source == 'pets':
        assert set(split['test'].tolist()) == set(pets.test.nonzero()[:, 0].tolist())
        for breed in pets.breeds.unique():
            here = (pets.breeds == breed) & ~pets.test
            chosen = here[split['val']].sum().item()
            assert abs(chosen - fraction * here.sum().item()) <= 1 + 1e-6


@many
@given(pets)
def test_the_published_split_cuts_the_sorted_names(pets):
    split = published_split(pets)
    names = [pets.names[i] + '.png' for i in torch.cat([split['train'], split['val']]).tolist()]
    assert names == sorted(names) and len(split['train']) == len(pets) * 8 // 10


@many
@given(st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 1000))
def test_an_order_is_a_permutation_that_seed_and_epoch_decide(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert sorted(order.tolist()) == list(range(n)) and torch.equal(order, epoch_order(n, seed, epoch))
    if n >= 30: assert not torch.equal(order, epoch_order(n, seed, epoch + 1)) and not torch.equal(order, epoch_order(n, seed + 1, epoch))


@pytest.fixture(scope='module')
def drawn(): return synthetic_pets(23, size=16, seed=1)


@few
@given(st.data(), st.integers(1, 23), st.integers(1, 9), st.integers(1, 5), st.integers(0, 99), st.booleans(), st.sampled_from(['background', 'pet', 'ignore']))
def test_batches_continue_anywhere_and_divide_among_processes(drawn, data, n, size, processes, seed, augmented, border):
    index, options = torch.arange(n), dict(seed=seed, epoch=1, augmented=augmented, border=border)
    whole = list(batches(drawn, index, size, **options))
    assert sum(len(images) for images, _ in whole) == n
    start = data.draw(st.integers(0, len(whole)))
    rest = list(batches(drawn, index, size, start=start, **options))
    assert len(rest) == len(whole) - start and all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(whole[start:], rest))
    shares = [list(batches(drawn, index, size, shard=(rank, processes), **options)) for rank in range(processes)]
    for step, (images, targets) in enumerate(whole):
        for rank, share in enumerate(shares):
            mine, truth = share[step]
            if rank < len(images): assert torch.allclose(mine, images[rank::processes], atol=1e-6) and torch.equal(truth, targets[rank::processes])
            else: assert len(mine) == 1 and (truth == 255).all()  # nothing to do: takes part, counts nothing


@many
@given(st.integers(1, 8), st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True), st.sets(st.sampled_from(FACTORIAL), min_size=1))
def test_shards_are_a_partition_of_the_runs(n, seeds, variants):
    configs = make_configs(sorted(variants), seeds, data='synthetic')
    parts = [configs[i::count] for i, count in (shard(f'{k}/{n}') for k in range(n))]
    folders = [str(config.folder) for part in parts for config in part]
    assert len(folders) == len(set(folders)) == len(variants) * len(seeds) and set(folders) == {str(config.folder) for config in configs}


# Ids and configs.

@many
@given(st.lists(st.tuples(st.sampled_from(sorted(DOWNSAMPLE)), st.sampled_from(sorted(UPSAMPLE)), st.sampled_from(sorted(LOSSES))), min_size=1, max_size=9))
def test_ids_name_their_variant(parts):
    ids = ['-'.join(part) for part in parts]
    assert [variant.id for variant in parse_variants(','.join(ids))] == list(dict.fromkeys(ids))


@many
@given(st.text(max_size=30))
def test_any_text_is_a_list_of_variants_or_a_clear_refusal(text):
    try: assert parse_variants(text)
    except ValueError as error: assert 'exp1' in str(error)


plain = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8)


@many
@given(st.dictionaries(st.text(max_size=3), plain, max_size=4), st.dictionaries(st.text(max_size=3), plain, max_size=4))
def test_differences_are_none_exactly_between_equals(a, b):
    assert differences(a, a) == []
    dropped = lambda value: {k: dropped(v) for k, v in value.items() if v is not None and dropped(v) != {}} if isinstance(value, dict) else value
    if differences(a, b) == []: assert dropped(a) == dropped(b)
    if a == b: assert differences(a, b) == []


@many
@given(st.sampled_from(FACTORIAL), st.integers(0, 99), st.integers(1, 512), st.integers(32, 1024), st.sampled_from(['background', 'pet', 'ignore']), st.sampled_from(list(PROTOCOLS)))
def test_two_configs_share_a_folder_only_if_they_are_equal(variant, seed, width, size, border, protocol):
    config, other = (RunConfig(variant, seed, Setting('synthetic', protocol, width, size, b)) for b in (border, 'pet' if border == 'background' else 'background'))
    assert config.folder != other.folder and differences(config.to_dict(), config.to_dict()) == [] and len(differences(config.to_dict(), other.to_dict())) == 1
