"""The views of the inside: pure functions, by hand on small cases, and what is kept of the shipped networks made anew."""
import sys

import numpy as np
import pytest
import torch

from conftest import ROOT
from unet_course.experiments import FACTORIAL
from unet_course.factory import create_model
from unet_course.prediction import load_pretrained
from unet_course.views import inside
from unet_course.views.inside import GRID, Gained, auc, far_share, fit_readout, grey_square, grid_meaning, grid_ratio, grid_sentence, known_inside, ladder, ladder_meaning, ladder_sentence, logits_with_skips, loupe, pack_readouts, read_out, stage_names, stages, unpack_readouts


def network(down='mp', up='tr', depth=3): return create_model(dict(base_width=4, depth=depth, downsample_mode=down, upsample_mode=up), seed=0).eval()


@pytest.mark.parametrize('down', ['mp', 'str_conv', 'str_conv_bn'])
@pytest.mark.parametrize('up', ['tr', 'ups'])
@pytest.mark.parametrize('shape', [(2, 3, 32, 32), (1, 3, 33, 47)], ids=str)
def test_the_walk_is_the_networks_own(down, up, shape):
    model, images = network(down, up), torch.rand(shape)
    with torch.inference_mode(): seen = stages(model, images)
    assert torch.equal(seen['logits'], model(images))
    found = {}
    handles = [module.register_forward_hook(lambda m, i, o, name=name: found.__setitem__(name, o.clone())) for name, module in model.named_modules()]
    model(images)
    for handle in handles: handle.remove()
    assert torch.equal(seen['encoder2'], found['encoder.1']) and torch.equal(seen['bottleneck'], found['bottleneck']) and torch.equal(seen['up1'], found['up.2'])
    assert torch.equal(seen['conv1'], found['decoder.2.2']) and torch.equal(seen['decoder1'], found['decoder.2']) and torch.equal(seen['decoder3'], found['decoder.0'])
    assert stage_names(3) == ['encoder1', 'encoder2', 'encoder3', 'bottleneck', 'decoder3', 'decoder2', 'decoder1'] and set(stage_names(3)) < set(seen)


def test_a_gain_acts_on_its_own_connection():
    model, images = network(), torch.rand(1, 3, 32, 32)
    plain = stages(model, images)
    for level in (1, 2, 3):
        gain = torch.ones(3)
        gain[level - 1] = 0
        seen = stages(model, images, gain)
        changed = [name for name in stage_names(3) if not torch.equal(seen[name], plain[name])]
        assert changed == [f'decoder{k}' for k in range(level, 0, -1)]
        assert torch.equal(seen['logits'], Gained(model, gain.tolist())(images)) and torch.equal(seen['logits'], logits_with_skips(model, images, gain.tolist()))


def test_grid_ratio_by_hand():
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing='ij')
    noise = torch.randn(4, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    assert ((grid_ratio(noise) > .8) & (grid_ratio(noise) < 1.25)).all()
    assert grid_ratio(noise + 2 * (y % 2 + x % 2)).min() > 10
    assert grid_ratio((noise + noise.roll(1, 2) + noise.roll(1, 3) + noise.roll((1, 1), (2, 3)))).max() < .1, 'neighbours made alike'
    assert grid_ratio(noise + 100).allclose(grid_ratio(noise)) and grid_ratio(7 * noise).allclose(grid_ratio(noise))
    assert grid_ratio(torch.zeros(1, 2, 16, 16)).item() == 1.0


def test_the_loupe_cuts_the_mean_of_the_channels():
    with torch.inference_mode(): seen = stages(network(), torch.rand(1, 3, 48, 40))
    views = loupe(seen, 5, 7, 16)
    for name, (grey, ratio) in views.items():
        cut = seen[name][0].mean(0)[5:21, 7:23].numpy()
        assert grey.shape == (16, 16) and grey.min() == 0 and grey.max() == 255 and np.corrcoef(cut.ravel(), grey.ravel())[0, 1] > .999
        assert ratio == grid_ratio(seen[name]).item()
    assert loupe(seen, 999, -5, 16)['up1'][0].shape == (16, 16)


GRIDS = [
    ({'mp-tr-bce': (4, 1), 'mp-ups-bce': (.3, 1)}, 'mp-tr-bce has a grid in its last up block (4.00) but none in its logits (1.00); mp-ups-bce has no grid in its last up block (0.30) and none in its logits (1.00).'),
    ({'mp-tr-bce': (4, 3), 'mp-ups-bce': (.3, 2.5)}, 'mp-tr-bce has a grid in its last up block (4.00) and one in its logits (3.00); mp-ups-bce has no grid in its last up block (0.30) but one in its logits (2.50).'),
    ({'mp-tr-bce': (1.9, 1), 'mp-ups-bce': (.3, 1)}, 'mp-tr-bce has no grid in its last up block (1.90) and none in its logits (1.00); mp-ups-bce has no grid in its last up block (0.30) and none in its logits (1.00). So a transposed convolution (tr) need not leave one.'),
    ({'untrained mp-tr-bce': (17727.04, 99.9)}, 'untrained mp-tr-bce has a grid in its last up block (17,727) and one in its logits (99.90).'),
    ({'untrained mp-tr-bce': (1, 1)}, 'untrained mp-tr-bce has no grid in its last up block (1.00) and none in its logits (1.00). So a transposed convolution (tr) need not leave one.'),
    ({'mp-tr-bce': (1, 1), 'mp-tr-dice': (3, 1)}, 'mp-tr-bce has no grid in its last up block (1.00) and none in its logits (1.00); mp-tr-dice has a grid in its last up block (3.00) but none in its logits (1.00).'),
    ({'mp-ups-bce': (.5, 1)}, 'mp-ups-bce has no grid in its last up block (0.50) and none in its logits (1.00).')]
LADDERS = [
    ({'a': ([.5, .62, .7, .74], [.5, .5, .6, .74])}, 'a has 0.50 without skips and 0.74 with all; its skip 3 adds +12.0 points as the first that is switched on, +14.0 as the last. The order matters.'),
    ({'a': ([.5, .6, .7], [.5, .605, .7]), 'b': ([.5, .6, .49], [.5, .6, .49])},
     'a has 0.50 without skips and 0.70 with all; its skip 2 adds +10.0 points as the first that is switched on, +9.5 as the last; b has 0.50 without skips and 0.49 with all; its skip 2 adds +10.0 points as the first that is switched on, -11.0 as the last. The order matters.'),
    ({'a': ([.5, .6, .7], [.5, .605, .7])}, 'a has 0.50 without skips and 0.70 with all; its skip 2 adds +10.0 points as the first that is switched on, +9.5 as the last. The order hardly matters here.')]


def grids(rows): return {name: dict(up1=float(up), conv1=1., decoder1=1., logits=float(logits)) for name, (up, logits) in rows.items()}
def ladders(rows): return {name: dict(ladder=[dict(iou=x) for x in down], ladder_finest_first=[dict(iou=x) for x in up]) for name, (down, up) in rows.items()}


@pytest.mark.parametrize('rows, said', GRIDS)
def test_the_sentence_follows_the_numbers(rows, said):
    assert grid_sentence(grids(rows)) == f'In short, for the whole picture: {said}'
    assert 'whole picture' in grid_meaning(24) and '24 × 24' in grid_meaning(24) and '1: both are equally strong, no grid' in grid_meaning() and f'From {GRID:g} on' in grid_meaning()


@pytest.mark.parametrize('rows, said', LADDERS)
def test_the_sentence_of_the_ladder_follows_the_numbers(rows, said):
    assert ladder_sentence(ladders(rows), 7) == f'In short, mean IoU over 7 validation photos: {said}'
    assert 'Skip 4 is the deepest' in ladder_meaning(96, 4) and '12 × 12' in ladder_meaning(96, 4) and '96 × 96' in ladder_meaning(96, 4)


def test_a_readout_finds_what_is_linear_and_survives_packing():
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(20, 6, 12, 12, generator=draws) * torch.tensor([1., 10, .1, 1, 1, 3])[None, :, None, None]
    score = features[:, :1] - .1 * features[:, 1:2] + 5 * features[:, 2:3]
    targets = (score > 0).float()
    weights, bias = fit_readout(features, targets)
    with_noise = fit_readout(features, torch.rand(targets.shape, generator=draws))
    assert auc(torch.einsum('bchw,c->bhw', features.double(), weights).numpy(), targets[:, 0].bool().numpy()) > .99
    assert (with_noise[0] * features.double().std((0, 2, 3))).abs().max() < .02 < .1 < (weights * features.double().std((0, 2, 3))).abs().max()
    (kept, kept_bias, score), = unpack_readouts(pack_readouts([(weights, bias, .987)]))
    assert np.abs(kept - weights.numpy()).max() <= weights.abs().max() / 200 and score == .987 and kept_bias == pytest.approx(bias, rel=1e-3)
    shown = read_out(features[0], kept, kept_bias)
    assert shown.shape == (12, 12) and shown.dtype == np.float32 and 0 <= shown.min() and shown.max() <= 1 and shown[targets[0, 0] == 1].mean() > shown[targets[0, 0] == 0].mean() + .2


def test_auc_by_hand():
    assert auc(np.array([1, 2, 3, 4]), np.array([False, False, True, True])) == 1 and auc(np.array([4, 3, 2, 1]), np.array([False, False, True, True])) == 0
    assert auc(np.array([1, 1, 1, 1]), np.array([False, True, False, True])) == .5 and auc(np.array([1, 3, 2, 4]), np.array([False, False, True, True])) == .75


def test_the_ladder_is_built_from_below():
    assert ladder(4) == {'none': (0, 0, 0, 0), '4': (0, 0, 0, 1), '4+3': (0, 0, 1, 1), '4+3+2': (0, 1, 1, 1), 'all': (1, 1, 1, 1)}
    assert ladder(3, deepest_first=False) == {'none': (0, 0, 0), '1': (1, 0, 0), '1+2': (1, 1, 0), 'all': (1, 1, 1)} and list(ladder(4, False)) == ['none', '1', '1+2', '1+2+3', 'all']


def test_the_square_hides_and_its_reach_is_counted():
    model, images = network().requires_grad_(False), torch.rand(1, 3, 32, 32)
    hidden, change = grey_square(model, images, 8, 4, 6)
    assert torch.allclose(hidden[0, :, 8:14, 4:10], images.mean((2, 3))[0][:, None, None].expand(3, 6, 6)) and torch.equal(hidden[..., 14:, :], images[..., 14:, :])
    assert np.allclose(change, (model(hidden).sigmoid() - model(images).sigmoid())[0, 0].numpy())
    change = np.zeros((32, 32))
    change[9, 5] = change[30, 30] = change[31, 30] = .5
    change[0, 0] = .05
    assert far_share(change, 8, 4, 6) == 2 / 1024


def test_what_is_kept_is_small_and_in_order():
    known = known_inside()
    assert sorted(known['networks']) == sorted(v.id for v in FACTORIAL) and known['fitted'] == 150 and known['checked'] == 100
    size = sum(len(row['readout']['weights']) + 8 * 2 * len(row['readout']['scale']) for row in known['networks'].values())
    print(f'{size} bytes of readouts')
    assert size <= 10_000 and (inside.package_folder() / 'weights/inside.json').stat().st_size < 40_000
    for name, row in known['networks'].items():
        auc_of = dict(zip(stage_names(4), row['readout']['auc']))
        assert .5 < auc_of['encoder1'] < auc_of['encoder3'] < auc_of['bottleneck'] < 1 and auc_of['decoder1'] > .85, name
        assert [[rung['skips'] for rung in row[key]] for key in ('ladder', 'ladder_finest_first')] == [list(ladder(4)), list(ladder(4, False))] and [row['ladder'][k] for k in (0, -1)] == [row['ladder_finest_first'][k] for k in (0, -1)]
        assert row['ladder'][0]['iou'] < row['ladder'][-1]['iou'] and row['ladder'][0]['boundary'] < row['ladder'][-1]['boundary']


@pytest.mark.slow
@pytest.mark.parametrize('variant', [FACTORIAL[0], FACTORIAL[-1]], ids=lambda v: v.id)
def test_what_is_kept_of_the_shipped_networks_is_made_anew(pets_root, variant):
    "The tool's own functions on the same photos: readouts, ratios and ladder of two networks."
    sys.path.insert(0, str(ROOT / 'tools'))
    import readouts as tool
    from unet_course.data import course_split
    from unet_course.datasets.oxford_pets import load_pets
    segmenter, kept = load_pretrained(variant.down, variant.up, variant.loss), known_inside()['networks'][variant.id]
    pets = load_pets(size=segmenter.size)
    split = course_split(pets)
    fitted, checked = tool.spread(split['train'], tool.FITTED), tool.spread(split['val'], tool.CHECKED)
    readout, grid = tool.readouts_of(segmenter.model, pets, fitted, checked)
    assert np.allclose(readout['auc'], kept['readout']['auc'], atol=.002)
    for name, row in grid.items(): assert np.allclose(row, kept['grid'][name], rtol=.02), name
    for ours, theirs in zip(tool.ladder_of(segmenter, pets, checked) + tool.ladder_of(segmenter, pets, checked, False), kept['ladder'] + kept['ladder_finest_first']): assert (ours['skips'], ours['iou'], ours['boundary']) == (theirs['skips'], pytest.approx(theirs['iou'], abs=.002), pytest.approx(theirs['boundary'], abs=.002))
