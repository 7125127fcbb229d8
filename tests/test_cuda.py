"""What a GPU would refuse, found without one: fake tensors know their device and their shape, and compute nothing."""
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from unet_course import losses, measures
from unet_course.data import batches, course_split
from unet_course.datasets.loader import resize
from unet_course.datasets.synthetic import synthetic_pets
from unet_course.experiments import PROTOCOLS
from unet_course.factory import create_model
from unet_course.losses import DiceLoss, WeightedBCE
from unet_course.training import batch_sums, make_optimizer

CUDA = torch.device('cuda', 0)


@pytest.fixture(scope='module')
def drawn():
    pets = synthetic_pets(60, size=64, seed=3)
    return pets, course_split(pets)['train']


@pytest.fixture
def fake():
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()) as mode: yield mode


def placed(mode, pets, device):
    "The pets, their pictures fake ones."
    def move(tensor): return torch.empty_like(mode.from_tensor(tensor), device=device)
    return replace(pets, images=move(pets.images), trimaps=move(pets.trimaps))


@pytest.fixture
def net(fake):
    "A small network as `Trainer` has it on a GPU, with gradients."
    with CUDA: net = create_model(dict(base_width=4, depth=2))
    for module in net.modules():
        for name, p in module._parameters.items():
            if p is not None and p.ndim == 4: module._parameters[name] = nn.Parameter(torch.empty_like(p, memory_format=torch.channels_last))
    for p in net.parameters(): p.grad = torch.empty_like(p)
    return net


@pytest.mark.parametrize('where', ['cuda', 'cpu'])
@pytest.mark.parametrize('augmented', [False, 'flip', True])
def test_batches_come_to_the_gpu_in_the_layout_of_the_network(fake, drawn, where, augmented):
    pets = placed(fake, drawn[0], where)
    for size in (64, 32):
        small = resize(pets, size)
        assert small.images.device.type == small.trimaps.device.type == where
        images, targets = next(batches(small, drawn[1], 8, device=CUDA, seed=0, epoch=0, augmented=augmented))
        assert images.device == targets.device == CUDA and images.shape == (8, 3, size, size) and images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('amp', [torch.bfloat16, torch.float16, None])
@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_optimizers_step_on_the_gpu(net, protocol, amp):
    optimizer, schedule = make_optimizer(net, PROTOCOLS[protocol], 100, amp)
    for _ in range(2):
        for p in net.parameters(): p.grad = torch.empty_like(p)
        optimizer.step()
        if schedule: schedule.step()
    assert optimizer.param_groups[-1]['fused'] and all(p.device == CUDA for p in net.parameters())
    moments = [value for state in optimizer.state.values() for name, value in state.items() if name != 'step']
    assert moments and all(value.device == CUDA for value in moments)


def test_losses_and_measures_stay_on_the_gpu(net):
    images, targets = torch.empty(8, 3, 64, 64, device=CUDA), torch.empty(8, 1, 64, 64, dtype=torch.uint8, device=CUDA)
    logits = net(images)
    for loss in (DiceLoss(), WeightedBCE()): assert loss(logits, targets).device == CUDA
    assert batch_sums(logits.mean(), logits, targets).device == CUDA and measures.grid_power(logits).device == CUDA
    probs = logits.sigmoid().detach()
    with mock.patch.object(measures, '_counted_probs', losses._counted):  # without a look at the values: there are none
        assert measures.counts_at(probs, targets, measures.THRESHOLDS).device == measures.brier(probs, targets).device == CUDA
        assert measures.reliability(probs, targets).device.type == 'cpu'  # the table alone
    assert measures.boundary_iou(probs[:, 0] > .5, targets[:, 0], 2).device == CUDA
    assert measures.shift_consistency(net.eval(), images).device == CUDA
