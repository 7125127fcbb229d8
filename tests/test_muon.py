"""The optimizer of the course's recipe, and the small pictures that it begins with."""
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from unet_course.data import course_split
from unet_course.datasets.loader import TrainingData, resize
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.factory import create_model
from unet_course.muon import Muon, orthogonalize
from unet_course.support.files import CourseError
from unet_course.training import Recipe, make_optimizer

RECIPE = Recipe(epochs=4, batch_size=4, optimizer='muon', lr=0.02, schedule='linear', sizes=(.5, 1), augmented='flip')


@pytest.fixture(scope='module')
def data():
    pets = synthetic_pets(24, 64)
    return TrainingData(pets, course_split(pets))


@pytest.mark.parametrize('shape', [(6, 20), (20, 6), (1, 8)])
def test_orthogonalized_singular_values_are_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix, 5))
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_tiny_gradient_is_not_lost_in_fp16():
    matrix = 1e-6 * torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    large = orthogonalize(1e6 * matrix, 5)
    assert torch.allclose(orthogonalize(matrix, 5), large, atol=1e-3)
    if torch.cuda.is_available(): assert torch.allclose(orthogonalize(matrix.cuda(), 5, torch.float16).float().cpu(), large, atol=.1)
    assert not orthogonalize(torch.zeros(3, 4)).any()  # a frozen weight stays


@pytest.mark.parametrize('shape', [(6, 20), (20, 6)])
@pytest.mark.skipif(not hasattr(torch.optim, 'Muon'), reason='torch.optim.Muon came with torch 2.9')
def test_steps_are_those_of_torch(shape):
    random = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    pair = Muon([dict(params=[ours], muon=True)], lr=0.02, weight_decay=0.1, steps=5, dtype=torch.bfloat16), torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for _ in range(3):
        ours.grad = torch.randn(shape, generator=random)
        theirs.grad = ours.grad.clone()
        for optimizer in pair: optimizer.step()
    assert torch.allclose(ours, theirs, atol=2e-3) and ours.abs().max() > 5e-3


def test_other_groups_get_adamw_to_the_bit():
    random = torch.Generator().manual_seed(0)
    ours, theirs, matrix = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(4, 4))
    pair = Muon([dict(params=[matrix], muon=True), dict(params=[ours])], lr=.01), torch.optim.AdamW([theirs], lr=.01)
    for _ in range(3):
        ours.grad, matrix.grad = torch.randn(5, generator=random), torch.eye(4)
        theirs.grad = ours.grad.clone()
        for optimizer in pair: optimizer.step()
    assert torch.equal(ours, theirs)


def test_a_convolution_is_the_matrix_of_its_outputs():
    weight = nn.Parameter(torch.zeros(6, 4, 3, 3).to(memory_format=torch.channels_last))
    weight.grad = torch.randn_like(weight)
    Muon([dict(params=[weight], muon=True)], lr=1.0, momentum=0.0, steps=5).step()
    values = torch.linalg.svdvals(weight.detach().flatten(1))
    assert values.min() > 0.6 and values.max() < 1.3
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_muon_has_the_matrices_and_adamw_the_rest():
    model = create_model(dict(base_width=2), seed=0)
    optimizer, _ = make_optimizer(model, RECIPE, 10)
    groups = {g.get('muon', False): g['params'] for g in optimizer.param_groups}
    assert all(p.ndim == 4 for p in groups[True]) and sum(map(len, groups.values())) == len(list(model.parameters()))
    assert any(p is model.head.weight for p in groups[False])


def test_a_step_that_the_scaler_skips_leaves_every_weight():
    model = create_model(dict(base_width=2, depth=2), seed=0)
    optimizer, _ = make_optimizer(model, RECIPE, 10)
    scaler, before = torch.amp.GradScaler('cpu', init_scale=2.**14), [p.clone() for p in model.parameters()]
    scaler.scale(model(torch.rand(2, 3, 16, 16)).sum() * math.inf).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters())) and scaler.get_scale() == 2.**13


def test_its_state_can_be_stored(tmp_path):
    def steps(optimizer, model, numbers):
        for i in numbers:
            model(torch.full((2, 3, 16, 16), .1 * i)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    whole, halves = (create_model(dict(base_width=2, depth=2), seed=0) for _ in range(2))
    steps(make_optimizer(whole, RECIPE, 10)[0], whole, range(5))
    first, second = (make_optimizer(halves, RECIPE, 10)[0] for _ in range(2))
    steps(first, halves, range(3))
    torch.save(first.state_dict(), tmp_path / 'state')
    second.load_state_dict(torch.load(tmp_path / 'state', weights_only=True))
    second.param_groups[0]['lr'], second.param_groups[1]['lr'] = (g['lr'] for g in first.param_groups)
    steps(second, halves, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), halves.parameters()))


def test_the_rate_rises_and_falls_in_a_straight_line():
    optimizer, schedule = make_optimizer(create_model(dict(base_width=2), seed=0), RECIPE, 100)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr())
        optimizer.step(), schedule.step()
    muon, adam = zip(*rates)
    assert max(muon) == pytest.approx(RECIPE.lr, rel=.02) and max(adam) == pytest.approx(RECIPE.adam_lr, rel=.02)
    falls = [a - b for a, b in zip(muon[35:-1], muon[36:])]
    assert min(falls) == pytest.approx(max(falls)) and muon[-1] < .001 * RECIPE.lr


def test_small_pictures_are_means_over_areas(data):
    pets, small = data.pets, resize(data.pets, 32)
    wanted = pets.images.float().view(24, 3, 32, 2, 32, 2).mean((3, 5)).round()
    assert torch.equal(small.images.float(), wanted) and set(small.trimaps.unique().tolist()) <= {1, 2, 3}


def test_the_epochs_are_divided_among_the_sizes(data):
    recipe = replace(RECIPE, epochs=6, sizes=(.25, .5, 1))
    sides = [recipe.side(epoch, 64) for epoch in range(6)]
    assert sides == [32, 32, 32, 32, 64, 64]  # never below 32
    assert [next(data.train(recipe, 0, epoch))[0].shape[-1] for epoch in range(6)] == sides
    assert [replace(recipe, epochs=n).side(n - 1, 100) for n in range(1, 9)] == 8 * [100]  # the last one is always full
    assert [replace(recipe, epochs=4).side(epoch, 100) for epoch in range(4)] == [32, 50, 100, 100]
    assert recipe.side(0, 16) == 16


@pytest.mark.parametrize('sizes', [(), (0, 1), (.5,), (2, 1)])
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(CourseError, match='sizes'): Recipe(sizes=sizes)
