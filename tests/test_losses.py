"""Chapter 03 against references written with loops in float64, finite differences, identities and random masks."""
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import nn

from unet_course import losses as L
from unet_course.losses import IGNORE, DiceLoss, WeightedBCE, accuracy, correct_logits, dice, iou, make_loss, pixel_counts, pos_weight_from
from unet_course.measures import boundary_iou, brier, counts_at, grid_frequency, grid_power, inner_band, reliability, shift_consistency

ALL = [WeightedBCE(1.0), WeightedBCE(3.0), DiceLoss(), DiceLoss(per_image=True), DiceLoss(smooth=10)]
ROOT = Path(__file__).resolve().parent.parent
names = [repr(loss) for loss in ALL]
half_counts = partial(counts_at, thresholds=[.5])


def sample(*shape, seed=0, ignore=0.0, scale=3.0, dtype=torch.float32):
    "Logits and targets of a shape, a share of them ignored."
    rng = np.random.default_rng(seed)
    targets = (rng.random(shape) < .3).astype(np.uint8)
    targets[rng.random(shape) < ignore] = IGNORE
    return torch.tensor(rng.normal(0, scale, shape), dtype=dtype), torch.tensor(targets)


# References: float64, one pixel after the other.

def bce_reference(logits, targets, pos_weight):
    total = count = 0
    for z, y in zip(logits.double().flatten().tolist(), targets.flatten().tolist()):
        if y == IGNORE: continue
        p = 1 / (1 + math.exp(-z))
        total -= pos_weight * math.log(p) if y else math.log1p(-p)
        count += 1
    return total / count


def dice_reference(logits, targets, smooth):
    intersection = total = 0
    for z, y in zip(logits.double().flatten().tolist(), targets.flatten().tolist()):
        if y == IGNORE: continue
        p = 1 / (1 + math.exp(-z))
        intersection, total = intersection + p * y, total + p + y
    return 1 - (2 * intersection + smooth) / (total + smooth)


def counts_reference(probs, targets, threshold):
    rows = []
    for image, target in zip(probs.double().flatten(1).tolist(), targets.flatten(1).tolist()):
        row = [0, 0, 0, 0]
        for p, y in zip(image, target):
            if y != IGNORE: row[(0 if y else 1) if p > threshold else (2 if y else 3)] += 1
        rows.append(row)
    return rows


def band_reference(mask, d):
    h, w = mask.shape
    band = np.zeros_like(mask)
    for r in range(h):
        for c in range(w):
            near = [(i, j) for i in range(r - d, r + d + 1) for j in range(c - d, c + d + 1)]
            band[r, c] = mask[r, c] and any(not (0 <= i < h and 0 <= j < w) or not mask[i, j] for i, j in near)
    return band


# Losses: values.

@pytest.mark.parametrize('ignore', [0, .4])
@pytest.mark.parametrize('pos_weight', [.5, 1, 3])
def test_bce_is_the_formula(pos_weight, ignore):
    logits, targets = sample(3, 1, 9, 7, ignore=ignore)
    assert WeightedBCE(pos_weight)(logits, targets).item() == pytest.approx(bce_reference(logits, targets, pos_weight), rel=1e-5)


@pytest.mark.parametrize('ignore', [0, .4])
@pytest.mark.parametrize('smooth', [0, 1, 10])
def test_dice_is_the_formula(smooth, ignore):
    logits, targets = sample(3, 1, 9, 7, ignore=ignore)
    assert DiceLoss(smooth)(logits, targets).item() == pytest.approx(dice_reference(logits, targets, smooth), rel=1e-5)
    each = np.mean([dice_reference(z, y, smooth) for z, y in zip(logits, targets)])
    assert DiceLoss(smooth, per_image=True)(logits, targets).item() == pytest.approx(each, rel=1e-5)


def test_bce_equals_torch():
    logits, targets = sample(4, 1, 16, 16, scale=30)
    twin = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]))(logits, targets.float())
    assert WeightedBCE()(logits, targets).item() == pytest.approx(twin.item(), rel=1e-6)


def test_dice_of_hard_masks_equals_torchmetrics_f1():
    from torchmetrics.functional.classification import binary_f1_score
    logits, targets = sample(4, 1, 16, 16, ignore=.2)
    hard = torch.sign(logits) * 100
    twin = binary_f1_score((hard > 0).int(), targets.int(), ignore_index=IGNORE)
    assert 1 - DiceLoss(smooth=0)(hard, targets).item() == pytest.approx(twin.item(), abs=1e-6)


# Losses: gradients.

@pytest.mark.parametrize('loss', ALL, ids=names)
def test_gradient_is_that_of_finite_differences(loss):
    logits, targets = sample(2, 1, 4, 5, ignore=.2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_())


@pytest.mark.parametrize('loss', ALL, ids=names)
def test_the_right_answer_is_downhill(loss):
    logits, targets = sample(2, 1, 8, 8)
    logits.requires_grad_()
    loss(logits, targets).backward()
    assert (torch.sign(logits.grad) == 1 - 2 * targets.float()).all()


@pytest.mark.parametrize('loss', ALL, ids=names)
def test_huge_logits_stay_finite(loss):
    logits = torch.tensor([-1e4, -120, 120, 1e4]).view(1, 1, 2, 2).requires_grad_()
    value = loss(logits, torch.tensor([1, 0, 0, 1], dtype=torch.uint8).view(1, 1, 2, 2))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


def test_bce_pulls_with_full_force_where_it_is_most_wrong():
    logits = torch.full((1, 1, 1, 1), -500.0).requires_grad_()
    WeightedBCE(3)(logits, torch.ones(1, 1, 1, 1, dtype=torch.uint8)).backward()
    assert logits.grad.item() == -3


# Losses: ignored pixels, empty images.

@pytest.mark.parametrize('poison', [50.0, math.inf, math.nan])
@pytest.mark.parametrize('loss', ALL, ids=names)
def test_ignored_pixels_change_nothing(loss, poison):
    logits, targets = sample(3, 1, 8, 8, ignore=.3)
    poisoned = torch.where(targets == IGNORE, poison, logits).requires_grad_()
    value = loss(poisoned, targets)
    value.backward()
    assert value.item() == loss(logits, targets).item()
    assert (poisoned.grad[targets == IGNORE] == 0).all() and (poisoned.grad[targets != IGNORE] != 0).all()


@pytest.mark.parametrize('loss', ALL, ids=names)
def test_all_pixels_ignored_is_zero_with_a_zero_gradient(loss):
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((2, 1, 4, 4), IGNORE, dtype=torch.uint8))
    value.backward()
    assert value.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_empty_prediction_of_an_empty_target_costs_nothing():
    empty = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    for loss in (DiceLoss(), DiceLoss(per_image=True)): assert loss(torch.full((2, 1, 8, 8), -50.0), empty).item() == pytest.approx(0, abs=1e-6)
    assert DiceLoss()(torch.full((2, 1, 8, 8), 50.0), empty).item() == pytest.approx(1 - 1 / 129, rel=1e-5)


# Losses: precision.

@pytest.mark.parametrize('per_image', [False, True])
def test_dice_at_batch_32_in_half_precision(per_image):
    logits, targets = sample(32, 1, 128, 128)
    p, y = torch.sigmoid(logits).double(), targets.double()
    pixels = (1, 2, 3) if per_image else (0, 1, 2, 3)
    reference = (1 - (2 * (p * y).sum(pixels) + 1) / (p.sum(pixels) + y.sum(pixels) + 1)).mean().item()
    assert torch.isinf(torch.sigmoid(logits).half().sum())  # what a sum in fp16 would be
    for dtype in (torch.float16, torch.bfloat16):
        value = DiceLoss(per_image=per_image)(logits.to(dtype), targets)
        assert value.dtype == torch.float32 and value.item() == pytest.approx(reference, abs=1e-3)


@pytest.mark.parametrize('loss', ALL, ids=names)
def test_autocast_changes_nothing(loss):
    logits, targets = sample(4, 1, 16, 16)
    with torch.autocast('cpu', torch.bfloat16): value = loss(logits, targets)
    assert value.dtype == torch.float32 and torch.equal(value, loss(logits, targets))


@pytest.mark.parametrize('loss', ALL, ids=names)
def test_half_precision_logits_get_a_gradient(loss):
    logits, targets = sample(2, 1, 8, 8, dtype=torch.float16)
    logits.requires_grad_()
    loss(logits, targets).backward()
    assert logits.grad.dtype == torch.float16 and (logits.grad != 0).all()


def test_float64_stays_float64():
    logits, targets = sample(2, 1, 8, 8, dtype=torch.float64)
    for loss in ALL: assert loss(logits, targets).dtype == torch.float64


# Losses: identities.

@pytest.mark.parametrize('loss', ALL, ids=names)
def test_the_order_of_images_and_pixels_does_not_matter(loss):
    logits, targets = sample(4, 1, 8, 8, ignore=.1)
    order, pixels = torch.tensor([2, 0, 3, 1]), torch.randperm(64, generator=torch.Generator().manual_seed(0))
    def shuffled(x): return x[order].flatten(2)[..., pixels].view_as(x)
    assert loss(shuffled(logits), shuffled(targets)).item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)


@pytest.mark.parametrize('loss', [WeightedBCE(3.0), DiceLoss(smooth=0), DiceLoss(per_image=True)], ids=repr)
def test_every_image_twice_is_the_same_loss(loss):
    logits, targets = sample(4, 1, 8, 8, ignore=.1)
    assert loss(logits.repeat(2, 1, 1, 1), targets.repeat(2, 1, 1, 1)).item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)


def test_batch_dice_of_one_image_is_its_own():
    logits, targets = sample(1, 1, 8, 8)
    assert DiceLoss()(logits, targets).item() == DiceLoss(per_image=True)(logits, targets).item()


def test_memory_layout_does_not_matter():
    logits, targets = sample(4, 1, 8, 6)
    strided, other = logits.transpose(2, 3).contiguous().transpose(2, 3), targets.transpose(2, 3).contiguous().transpose(2, 3)
    for loss in ALL: assert loss(strided, other).item() == pytest.approx(loss(logits, targets).item(), rel=1e-6)


def test_correct_logits_undoes_the_weight():
    share, w = .2, 3.0
    best = torch.tensor(math.log(w * share / (1 - share)), dtype=torch.float64)
    z = best.clone().requires_grad_()
    WeightedBCE(w)(z.expand(1, 1, 1, 5), torch.tensor([1, 0, 0, 0, 0], dtype=torch.uint8).view(1, 1, 1, 5)).backward()
    assert abs(z.grad.item()) < 1e-12  # the weighted loss is least here ...
    assert torch.sigmoid(correct_logits(best, w)).item() == pytest.approx(share)  # ... and this is the share
    assert torch.equal(correct_logits(best, 1.0), best)


def test_pos_weight_from_counts_only_what_counts():
    assert pos_weight_from(torch.tensor([1, 0, 0, 0, IGNORE], dtype=torch.uint8)) == 3
    for bad in ([0, 0], [1, 1], [IGNORE, IGNORE]):
        with pytest.raises(ValueError, match='both classes'): pos_weight_from(torch.tensor(bad, dtype=torch.uint8))


# Arguments.

def test_ignore_is_the_same_number_everywhere():
    from unet_course import data
    assert data.IGNORE == IGNORE


def test_registry():
    assert sorted(L.LOSSES) == ['bce', 'bce_unweighted', 'dice'] and make_loss('bce1').pos_weight == 1
    assert make_loss('bce', pos_weight=2).pos_weight == 2 and make_loss('dice', per_image=True).per_image
    assert make_loss('bce').pos_weight == 3 and make_loss('dice').smooth == 1 and not make_loss('dice').per_image
    with pytest.raises(ValueError, match="bce, bce_unweighted, dice, not 'focal'"): make_loss('focal')
    with pytest.raises(TypeError, match='pos_weight'): make_loss('dice', pos_weight=3)


@pytest.mark.parametrize('make', [lambda: WeightedBCE(0), lambda: WeightedBCE(-1), lambda: WeightedBCE(math.inf), lambda: WeightedBCE(math.nan),
                                  lambda: correct_logits(torch.zeros(1), 0)])
def test_a_bad_weight_is_refused(make):
    with pytest.raises(ValueError, match='^pos_weight must be'): make()


@pytest.mark.parametrize('smooth', [-1, math.inf, math.nan])
def test_a_bad_smooth_is_refused(smooth):
    with pytest.raises(ValueError, match='^smooth must be'): DiceLoss(smooth)


@pytest.mark.parametrize('per_image', [False, True])
def test_dice_without_smoothing_where_no_pixel_counts(per_image):
    logits, targets = sample(2, 1, 6, 6)
    half = targets.clone()
    half[0] = IGNORE
    loss = DiceLoss(smooth=0, per_image=per_image)
    logits.requires_grad_()
    value = loss(logits, torch.full_like(targets, IGNORE))
    value.backward()
    assert value == 0 and not logits.grad.any()
    alone = loss(logits[1:], targets[1:])
    assert loss(logits, half).item() == pytest.approx((alone / 2 if per_image else alone).item(), rel=1e-6)


@pytest.mark.parametrize('call', [*ALL, pixel_counts, brier, reliability, half_counts], ids=[*names, 'pixel_counts', 'brier', 'reliability', 'counts_at'])
def test_bad_targets_are_refused(call):
    values = torch.full((2, 1, 4, 4), .5)
    with pytest.raises(ValueError, match='shape of the prediction'): call(values, torch.zeros(2, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match='whole numbers'): call(values, torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r'not \[2, 3\]; turn a trimap'): call(values, torch.tensor([1, 2, 3, 1] * 8, dtype=torch.uint8).view(2, 1, 4, 4))


@pytest.mark.parametrize('call', [*ALL, brier, reliability, half_counts], ids=[*names, 'brier', 'reliability', 'counts_at'])
def test_a_finished_mask_is_no_probability(call):
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match='must be floating point'): call(mask, mask)


# Counts and ratios.

@pytest.mark.parametrize('n', [1, 2, 5])
@pytest.mark.parametrize('threshold', [.25, .5, .8])
def test_counts_are_those_of_a_loop(n, threshold):
    logits, targets = sample(n, 1, 7, 6, ignore=.2, seed=n)
    probs = torch.sigmoid(logits)
    expected = counts_reference(probs, targets, threshold)
    for counts in (pixel_counts(logits, targets, threshold), pixel_counts(probs, targets, threshold), pixel_counts(logits, targets, threshold, logits=True),
                   pixel_counts(probs > threshold, targets), pixel_counts((probs > threshold).byte(), targets)):
        assert counts.dtype == torch.int64 and counts.tolist() == expected


@pytest.mark.parametrize('n', [1, 3])
def test_counts_are_those_of_torchmetrics(n):
    from torchmetrics.functional.classification import binary_stat_scores
    logits, targets = sample(n, 1, 9, 8, ignore=.2)
    for image, target, counts in zip(logits, targets, pixel_counts(logits, targets, .3)):
        tp, fp, tn, fn, _ = binary_stat_scores(image, target.int(), .3, ignore_index=IGNORE).tolist()
        assert counts.tolist() == [tp, fp, fn, tn]


@pytest.mark.parametrize('ignore', [0, .3, 1])
def test_counts_at_many_thresholds_are_those_at_each(ignore):
    logits, targets = sample(3, 1, 17, 6, ignore=ignore)
    thresholds = [round(k / 20, 2) for k in range(1, 20)]
    probs = torch.sigmoid(logits)
    probs[0, 0, :, 0] = torch.tensor([0., 1., *thresholds[:15]])  # some of them exactly at a threshold, which is not above it
    counts = counts_at(probs, targets, thresholds)
    assert counts.shape == (3, 19, 4) and counts.dtype == torch.int64
    assert counts.equal(torch.stack([pixel_counts(probs, targets, t, logits=False) for t in thresholds], 1))
    assert (counts.sum(-1) == (targets != IGNORE).flatten(1).sum(1)[:, None]).all()
    with pytest.raises(ValueError, match='^thresholds must rise'): counts_at(probs, targets, [.7, .3])


def test_nan_is_no_prediction():
    logits, targets = sample(2, 1, 6, 6)
    logits[1, 0, 2, 3] = math.nan
    for known in (True, False, None):
        with pytest.raises(ValueError, match='holds nan'): pixel_counts(logits, targets, logits=known)
    targets[1, 0, 2, 3] = IGNORE
    assert pixel_counts(logits, targets, logits=True)[1].sum() == 35


def test_shy_logits_can_be_declared():
    shy, ones = torch.tensor([.1, .4, .6, .9]).view(2, 1, 1, 2), torch.ones(2, 1, 1, 2, dtype=torch.uint8)
    assert pixel_counts(shy, ones).tolist() == pixel_counts(shy, ones, logits=False).tolist() == [[0, 0, 2, 0], [2, 0, 0, 0]]
    assert pixel_counts(shy, ones, logits=True).tolist() == [[2, 0, 0, 0], [2, 0, 0, 0]]


def test_an_ignored_pixel_does_not_decide_what_the_others_are():
    probs, targets = torch.tensor([.4, .6, 9.0]).view(1, 1, 1, 3), torch.tensor([1, 1, IGNORE], dtype=torch.uint8).view(1, 1, 1, 3)
    assert pixel_counts(probs, targets).tolist() == [[1, 0, 1, 0]]


def test_ratios():
    counts = torch.tensor([[6, 2, 4, 8], [0, 0, 0, 20], [0, 3, 0, 17], [0, 0, 5, 15], [0, 0, 0, 0]])
    assert iou(counts).tolist() == [.5, 1, 0, 0, 1] and iou(counts).dtype == torch.float64
    assert dice(counts).tolist() == pytest.approx([12 / 18, 1, 0, 0, 1])
    assert accuracy(counts).tolist() == pytest.approx([.7, 1, .85, .75, 1])
    assert iou(counts.sum(0)).item() == pytest.approx(6 / 20) and iou(counts.view(5, 1, 4)).shape == (5, 1)


def test_ratios_of_a_large_data_set_are_exact():
    counts = torch.tensor([2**40 + 1, 0, 1, 0])
    assert iou(counts).item() == (2**40 + 1) / (2**40 + 2) != 1


masks = st.integers(1, 7).flatmap(lambda w: st.lists(st.tuples(*[st.tuples(st.booleans(), st.sampled_from([0, 1, IGNORE]))] * w), min_size=1, max_size=7))


@settings(max_examples=150, deadline=None)
@given(masks)
def test_properties_of_the_ratios(rows):
    pred = torch.tensor([[p for p, _ in row] for row in rows])[None, None]
    target = torch.tensor([[y for _, y in row] for row in rows], dtype=torch.uint8)[None, None]
    counts = pixel_counts(pred, target)
    i, d, a = iou(counts), dice(counts), accuracy(counts)
    assert counts.sum() == (target != IGNORE).sum()
    for value in (i, d, a): assert 0 <= value.item() <= 1
    assert d.item() == pytest.approx((2 * i / (1 + i)).item())
    counted = target != IGNORE
    swapped = torch.where(counted, pred.byte(), IGNORE).to(torch.uint8)
    assert iou(pixel_counts(target == 1, swapped)).item() == i.item()
    assert (i.item() == 1) == bool((pred[counted] == (target[counted] == 1)).all())


@settings(max_examples=100, deadline=None)
@given(masks, st.floats(0, 30), st.booleans())
def test_properties_of_the_losses(rows, steepness, per_image):
    pred = torch.tensor([[p for p, _ in row] for row in rows])[None, None]
    target = torch.tensor([[y for _, y in row] for row in rows], dtype=torch.uint8)[None, None]
    logits = steepness * (2 * pred.float() - 1)
    right = torch.where(target == 1, 50.0, -50.0)
    assert 0 <= DiceLoss(per_image=per_image)(logits, target).item() <= 1 and WeightedBCE()(logits, target).item() >= 0
    for loss in (DiceLoss(per_image=per_image), WeightedBCE()): assert loss(right, target).item() == pytest.approx(0, abs=1e-6)


# Boundary IoU.

@pytest.mark.parametrize('d', [1, 2, 4])
def test_band_is_that_of_a_loop(d):
    rng = np.random.default_rng(d)
    for density in (.5, .9, .98, 1):
        mask = rng.random((2, 11, 13)) < density
        assert np.array_equal(inner_band(torch.tensor(mask), d).numpy(), [band_reference(m, d) for m in mask])


def test_boundary_iou_is_that_of_loops():
    rng = np.random.default_rng(0)
    pred, target = rng.random((4, 12, 10)) < .93, rng.random((4, 12, 10)) < .93
    for d in (1, 2):
        expected = []
        for p, t in zip(pred, target):
            a, b = band_reference(p, d), band_reference(t, d)
            expected.append((a & b).sum() / (a | b).sum())
        value = boundary_iou(torch.tensor(pred), torch.tensor(target.astype(np.uint8)), d)
        assert value.dtype == torch.float64 and value.tolist() == pytest.approx(expected)


def test_boundary_iou_special_cases():
    full, empty = torch.ones(1, 9, 9, dtype=torch.bool), torch.zeros(1, 9, 9, dtype=torch.bool)
    ignored = full.byte()
    ignored[0, 4, 4] = IGNORE
    assert boundary_iou(empty, empty.byte(), 2).item() == 1 and boundary_iou(full, full.byte(), 2).item() == 1
    assert boundary_iou(full, empty.byte(), 2).item() == 0
    assert inner_band(full, 1).sum() == 32  # the frame is a contour
    both = boundary_iou(torch.cat([full, full]), torch.cat([ignored, full.byte()]), 1)
    assert both[0].isnan() and both[1] == 1
    assert not inner_band(full[0], 2).equal(full[0])  # a single mask, two dimensions
    with pytest.raises(ValueError, match='^masks must be bool'): inner_band(full.byte(), 1)


def test_a_hole_costs_iou_and_a_ragged_edge_costs_boundary_iou():
    target = torch.zeros(1, 40, 40, dtype=torch.uint8)
    target[0, 5:35, 5:35] = 1
    hole, smaller = target.bool(), target.bool()
    hole[0, 15:26, 15:26] = False
    smaller[0, 5, :] = smaller[0, 34, :] = smaller[0, :, 5] = smaller[0, :, 34] = False
    plain = iou(pixel_counts(torch.stack([hole, smaller]), target.expand(2, 1, 40, 40)))
    edges = boundary_iou(torch.cat([hole, smaller]), target.expand(2, 40, 40), 2)
    assert abs(plain[0] - plain[1]) < .01 and edges[0] > edges[1] + .2


def test_boundary_iou_refuses():
    mask, target = torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match='^pred_mask must be bool'): boundary_iou(target.float(), target, 2)
    with pytest.raises(ValueError, match=r'drop the channel'): boundary_iou(mask[:, None], target, 2)
    for d in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match='^d must be'): boundary_iou(mask, target, d)


# Calibration.

def test_brier_is_that_of_a_loop():
    logits, targets = sample(3, 1, 6, 5, ignore=.3)
    probs = torch.sigmoid(logits)
    expected = [np.mean([(p - y) ** 2 for p, y in zip(a.flatten().tolist(), t.flatten().tolist()) if y != IGNORE]) for a, t in zip(probs, targets)]
    assert brier(probs, targets).tolist() == pytest.approx(expected) and brier(probs, targets).dtype == torch.float64
    assert brier(probs[:1], torch.full_like(targets[:1], IGNORE)).isnan().all()


@pytest.mark.parametrize('call', [brier, reliability, half_counts], ids=['brier', 'reliability', 'counts_at'])
def test_logits_are_no_probabilities(call):
    logits, targets = sample(2, 1, 4, 4)
    with pytest.raises(ValueError, match='^probs must lie in 0..1, not nan'): call(torch.full_like(logits, math.nan), targets)
    with pytest.raises(ValueError, match='^probs must lie in 0..1, not -'): call(logits, targets)


@pytest.mark.parametrize('bins', [15, 4])
def test_reliability_is_that_of_a_loop(bins):
    logits, targets = sample(3, 1, 9, 8, ignore=.3)
    probs = torch.sigmoid(logits)
    probs.flatten()[:3], targets.flatten()[:3] = torch.tensor([0.0, 1.0, .5]), torch.tensor([0, 1, 1], dtype=torch.uint8)
    expected = np.zeros((bins, 3))
    for p, y in zip(probs.flatten().tolist(), targets.flatten().tolist()):
        if y != IGNORE: expected[min(int(p * bins), bins - 1)] += (1, p, y)
    table = reliability(probs, targets, bins)
    assert table.shape == (bins, 3) and table.dtype == torch.float64
    np.testing.assert_allclose(table.numpy(), expected)
    parts = sum(reliability(probs[i:i + 1], targets[i:i + 1], bins) for i in range(3))
    np.testing.assert_allclose(parts.numpy(), expected)


def test_metrics_take_half_precision():
    logits, targets = sample(2, 1, 8, 8)
    probs = torch.sigmoid(logits)
    assert brier(probs.half(), targets).tolist() == pytest.approx(brier(probs, targets).tolist(), abs=1e-3)
    assert reliability(probs.half(), targets)[:, 0].sum() == 128
    assert pixel_counts(logits.half(), targets).equal(pixel_counts(logits, targets))


# Blockiness.

def smooth_noise(n, size, seed=0):
    x = torch.randn(n, 1, size + 6, size + 6, generator=torch.Generator().manual_seed(seed))
    for _ in range(3): x = nn.functional.avg_pool2d(x, 3, stride=1)
    return x


def grid_reference(x, periods):
    x = (x - x.mean()) / x.std()
    logs = []
    for lines in (x, x.T):
        n = lines.shape[1]
        power = [np.mean([abs(sum(v * np.exp(-2j * np.pi * k * i / n) for i, v in enumerate(line))) ** 2 for line in lines]) / n**2 + 1e-8 for k in range(n // 2 + 2)]
        logs += [math.log(power[n // p] / math.sqrt(power[n // p - 1] * power[n // p + 1])) for p in periods if n % p == 0 and n >= 2 * p]
    return math.exp(np.mean(logs))


def test_grid_frequency_is_the_definition():
    x = smooth_noise(2, 24)[..., :20]  # 24 x 20: period 16 fits neither axis, period 8 one of them
    assert grid_frequency(x).tolist() == pytest.approx([grid_reference(m[0].double().numpy(), (2, 4, 8, 16)) for m in x])


@pytest.mark.parametrize('size', [64, 128])
def test_grid_frequency_finds_a_grid(size):
    x = smooth_noise(16, size)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing='ij')
    score = grid_frequency(x)
    assert .8 < score.log().mean().exp() < 1.25
    for grid in ((-1.0) ** (rows + columns), (-1.0) ** columns, (columns % 4 == 0).float(), ((rows % 8 == 0) | (columns % 8 == 0)).float()):
        assert (grid_frequency(x + .1 * grid) > 1.5 * score).all()
    boxes = nn.functional.interpolate(x[..., ::4, ::4], scale_factor=4)
    assert (grid_frequency(boxes, periods=(2, 4)) < .1).all()


def test_grid_frequency_does_not_see_scale_or_offset():
    x = smooth_noise(4, 32)
    assert torch.allclose(grid_frequency(20 * x - 7), grid_frequency(x), rtol=1e-3)


def test_grid_frequency_special_cases():
    assert grid_frequency(torch.full((2, 1, 32, 32), 3.7)).tolist() == [1, 1]
    assert grid_frequency(torch.randn(2, 1, 31, 33)).isnan().all()
    pure = ((-1.0) ** torch.arange(32)).expand(1, 1, 32, 32)
    assert grid_frequency(pure, periods=(2,)).isfinite().all() and grid_frequency(pure, periods=(2,)).item() > 1000
    with pytest.raises(ValueError, match=r'\[B, 1, H, W\]'): grid_frequency(torch.zeros(8, 8))


class Threshold(nn.Module):
    "Pet is where the first channel is positive; with `grid`, only after pooling by two and enlarging."
    def __init__(self, grid): super().__init__(); self.grid = grid; self.training_when_called = None
    def forward(self, x):
        self.training_when_called = self.training or torch.is_grad_enabled()
        x = x[:, :1]
        return nn.functional.interpolate(nn.functional.max_pool2d(x, 2), scale_factor=2) if self.grid else x


def test_shift_consistency():
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for shift in (1, 3):
        assert shift_consistency(Threshold(False), images, shift).tolist() == [1.0] * 4
        assert (shift_consistency(Threshold(True), images, shift) < 1).all()
    model = Threshold(True).train()
    assert shift_consistency(model, -torch.rand(2, 3, 16, 16)).tolist() == [1, 1]  # nothing found, twice
    assert model.training and model.training_when_called is False
    shift_consistency(model.eval(), images)
    assert not model.training
    half_frozen = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.BatchNorm2d(1)).train()
    half_frozen[1].eval()
    shift_consistency(half_frozen, images)
    assert half_frozen.training and half_frozen[0].training and not half_frozen[1].training
    # Even shifts move a grid of two onto itself, away from the frame.
    inside = torch.zeros(1, 3, 16, 16) - 1
    inside[:, :, 5:9, 6:11] = 1
    assert shift_consistency(model, inside, 2).item() == 1 > shift_consistency(model, inside, 1).item()
    with pytest.raises(ValueError, match='^shift must be 1 to 15'): shift_consistency(model, images, 16)


# Import.

def test_import_loads_no_plots_metrics_or_widgets():
    code = "import sys, unet_course.losses; print([m for m in ('matplotlib', 'torchmetrics', 'ipywidgets', 'unet_course.data') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_grid_power_has_a_sign_for_each_period():
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.randn(4, 1, 66, 66), 3, stride=1)
    board = (-1.) ** (torch.arange(64)[:, None] + torch.arange(64))
    boxes = F.interpolate(smooth[..., ::2, ::2], scale_factor=2)
    plain, checked, boxed = (grid_power(m).mean((0, 2)) for m in (smooth, smooth + .2 * board, boxes))
    assert plain.abs().max() < 1 < 3 < checked[0] and boxed[0] < -3 and (checked[1:] - plain[1:]).abs().max() < .1
    assert grid_power(torch.zeros(1, 1, 64, 64)).abs().max() == 0
    odd = grid_power(torch.randn(2, 1, 48, 40), (2, 16))  # 16 fits 48 twice and more, 40 not at all
    assert odd.shape == (2, 2, 2) and odd[:, 1, 1].isnan().all() and odd[:, :, 0].isfinite().all()
    assert torch.allclose(grid_frequency(smooth), grid_power(smooth).mean((1, 2)).exp())
