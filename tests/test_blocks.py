"The blocks of chapter 01: shapes, parameters, what each computes, and the registries."
import pytest
import torch
import torch.nn.functional as F

from unet_course.blocks import DOWNSAMPLE, UPSAMPLE, DoubleConv, down_block, up_block


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_double_conv_is_conv_bn_relu_twice():
    torch.manual_seed(0)
    block, x = DoubleConv(3, 8).eval(), torch.randn(2, 3, 9, 7)
    y = x
    for conv, norm in ((block[0], block[1]), (block[3], block[4])):
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
        y = F.batch_norm(F.conv2d(y, conv.weight, conv.bias, padding=1), norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(block(x), y)
    assert y.shape == (2, 8, 9, 7) and y.std() > 0
    assert parameters(block) == (9 * 3 * 8 + 8) + (9 * 8 * 8 + 8) + 2 * 2 * 8


@pytest.mark.parametrize('mode, expected', [('mp', 0), ('str_conv', 9 * 64 + 8), ('str_conv_bn', 9 * 64 + 8 + 16)])
def test_down_blocks_halve_and_keep_channels(mode, expected):
    block = down_block(mode, 8)
    assert block(torch.randn(2, 8, 12, 6)).shape == (2, 8, 6, 3)
    assert parameters(block) == expected


@pytest.mark.parametrize('mode, expected', [('tr', 4 * 8 * 4 + 4), ('ups', 9 * 8 * 4 + 4)])
def test_up_blocks_double_and_halve_channels(mode, expected):
    block = up_block(mode, 8)
    assert block(torch.randn(2, 8, 5, 3)).shape == (2, 4, 10, 6)
    assert parameters(block) == expected


def test_down_blocks_compute_what_the_original_does():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(down_block('mp', 4)(x), x.reshape(2, 4, 4, 2, 4, 2).amax(dim=(3, 5)))
    bare = down_block('str_conv', 4)
    torch.testing.assert_close(bare(x), F.conv2d(x, bare.weight, bare.bias, stride=2, padding=1))
    better = down_block('str_conv_bn', 4)
    conv = F.conv2d(x, better[0].weight, better[0].bias, stride=2, padding=1)
    mean, var = conv.mean(dim=(0, 2, 3), keepdim=True), conv.var(dim=(0, 2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(better(x), ((conv - mean) / (var + 1e-5).sqrt()).relu(), atol=1e-5, rtol=1e-5)


def test_up_blocks_compute_what_the_original_does():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 5)
    tr = up_block('tr', 4)
    stamps = torch.einsum('bchw,cokl->bohkwl', x, tr.weight).reshape(2, 2, 6, 10) + tr.bias[:, None, None]
    torch.testing.assert_close(tr(x), stamps, atol=1e-5, rtol=1e-5)
    ups = up_block('ups', 4)
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(ups(x), F.conv2d(repeated, ups[1].weight, ups[1].bias, padding=1))


@pytest.mark.parametrize('build, mode', [(down_block, mode) for mode in ('mp', 'str_conv', 'str_conv_bn')] + [(up_block, mode) for mode in ('tr', 'ups')])
def test_gradients_reach_input_and_parameters(build, mode):
    torch.manual_seed(0)
    block, x = build(mode, 4), torch.randn(2, 4, 8, 8, requires_grad=True)
    block(x).square().sum().backward()
    for gradient in [x.grad, *(p.grad for p in block.parameters())]:
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_only_transposed_convolution_patterns_a_constant():
    torch.manual_seed(0)
    constant = torch.rand(1, 8, 1, 1).expand(1, 8, 8, 8)
    with torch.no_grad():
        tr, ups = (up_block(mode, 8)(constant)[0, :, 2:-2, 2:-2] for mode in ('tr', 'ups'))
    assert ups.std(dim=(1, 2)).max() < 1e-6 < tr.std(dim=(1, 2)).min()


@pytest.mark.parametrize('build, argument, allowed', [(down_block, 'downsample_mode', DOWNSAMPLE), (up_block, 'upsample_mode', UPSAMPLE)])
@pytest.mark.parametrize('mode', ['maxpool', '', None, ['mp']])
def test_unknown_mode_names_the_allowed(build, argument, allowed, mode):
    with pytest.raises(ValueError) as error:
        build(mode, 4)
    message = str(error.value)
    assert message.startswith(argument) and repr(mode) in message and all(name in message for name in allowed) and '\n' not in message


@pytest.mark.parametrize('build, mode, channels', [(up_block, 'tr', 7), (up_block, 'ups', 0), (down_block, 'str_conv', 0)])
def test_impossible_channels(build, mode, channels):
    with pytest.raises(ValueError, match=f'channels: {channels} given'):
        build(mode, channels)


def test_registries_hold_the_published_modes_and_take_another(monkeypatch):
    assert list(DOWNSAMPLE) == ['mp', 'str_conv', 'str_conv_bn'] and list(UPSAMPLE) == ['tr', 'ups']
    monkeypatch.setitem(DOWNSAMPLE, 'avg', lambda channels: torch.nn.AvgPool2d(2))
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(down_block('avg', 4)(x), F.avg_pool2d(x, 2))
