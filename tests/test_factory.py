"The factory of chapter 02: shapes and gradients of every combination, seeds, errors, counts, drawing and its twin."
import base64
import itertools
import re
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser

import pytest
import torch
from torch import nn

from unet_course.blocks import DOWNSAMPLE, UPSAMPLE
from unet_course.factory import UNet, count_macs, count_parameters, create_model, macs_by_module, pad_to_multiple
from unet_course.support.text import markdown_table
from unet_course.views import architecture
from unet_course.views.architecture import architecture_explorer, architecture_report, architecture_twin, draw_unet, short_number, stage_table

MODES = list(itertools.product(['mp', 'str_conv', 'str_conv_bn'], ['tr', 'ups']))
SIZES = [(1, 1), (7, 5), (33, 47), (64, 64)]
PARAMETERS = {  # width 64, exact; the original's are 31.0, 34.5, 34.2 and 37.7 million
    'mp-tr': 31_043_521, 'mp-ups': 34_525_121, 'str_conv-tr': 34_177_921, 'str_conv-ups': 37_659_521,
    'str_conv_bn-tr': 34_179_841, 'str_conv_bn-ups': 37_661_441}


def small(down='mp', up='tr', seed=0, **config):
    return create_model(dict(base_width=4, downsample_mode=down, upsample_mode=up) | config, seed=seed)


@pytest.mark.parametrize('down, up', MODES)
@pytest.mark.parametrize('size', SIZES)
def test_any_size_comes_back(down, up, size):
    generator = torch.Generator().manual_seed(0)
    for training in (True, False):
        logits = small(down, up).train(training)(torch.rand(2, 3, *size, generator=generator))
        assert logits.shape == (2, 1, *size) and logits.dtype == torch.float32 and logits.isfinite().all()


@pytest.mark.parametrize('down, up', MODES)
@pytest.mark.parametrize('size', [(33, 47), (64, 64)])
@pytest.mark.parametrize('training', [True, False])
def test_every_parameter_gets_a_gradient(down, up, size, training):
    model, generator = small(down, up).train(training), torch.Generator().manual_seed(0)
    model(torch.rand(2, 3, *size, generator=generator)).square().sum().backward()
    before_norm = {f'{name}.{i}.bias' for name, block in model.named_modules() if isinstance(block, nn.Sequential)
                   for i in range(len(block) - 1) if isinstance(block[i + 1], nn.BatchNorm2d)}
    assert len(before_norm) == 18 + 4 * (down == 'str_conv_bn')
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        if not (training and name in before_norm):  # the batch's mean takes such a bias away again: its gradient is rounding
            assert p.grad.abs().max() > 1e-8, name


def test_every_stage_reaches_the_logits():
    "Each skip connection and each stage matters: without one of them the logits change."
    model, x = small().train(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        for stage in [*model.encoder, *model.down, model.bottleneck, *model.up, *model.decoder]:
            handle = stage.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
            assert (model(x) - before).abs().max() > 1e-3
            handle.remove()
        assert torch.equal(model(x), before)
        for decode in model.decoder:  # the first half of its input is the skip connection, the second the up block
            for half in (0, 1):
                handle = decode.register_forward_pre_hook(lambda module, inputs: torch.cat(
                    [part if i != half else torch.zeros_like(part) for i, part in enumerate(inputs[0].chunk(2, dim=1))], dim=1))
                assert (model(x) - before).abs().max() > 1e-3
                handle.remove()


def test_padding_repeats_the_edge_and_is_cropped():
    x = torch.rand(1, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    padded = pad_to_multiple(x, 16)
    assert padded.shape == (1, 3, 48, 48)
    assert torch.equal(padded[..., :33, :47], x)
    assert torch.equal(padded[..., 33:, :47], x[..., -1:, :].expand(-1, -1, 15, -1)) and torch.equal(padded[..., 47], padded[..., 46])
    assert pad_to_multiple(padded, 16) is padded
    model = small().eval()
    with torch.no_grad():
        assert torch.equal(model(x), model(padded)[..., :33, :47])


@pytest.mark.parametrize('depth, channels, classes', [(1, 1, 2), (2, 3, 1), (5, 4, 3)])
def test_depth_and_channels(depth, channels, classes):
    model = small(in_channels=channels, out_channels=classes, depth=depth)
    assert model(torch.rand(2, channels, 40, 24)).shape == (2, classes, 40, 24)
    assert model.bottleneck[0].out_channels == 4 * 2**depth


def test_channels_last_gives_the_same_logits():
    model, x = small('str_conv', 'ups').eval(), torch.rand(2, 3, 37, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(x)
        logits = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('images', [torch.rand(3, 16, 16), torch.rand(1, 1, 16, 16), torch.rand(1, 3, 0, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)])
def test_wrong_images_are_refused(images):
    with pytest.raises(ValueError, match=r'^images: shape .* given, wanted \[batch, 3, height, width\]') as error:
        small()(images)
    assert str(tuple(images.shape)) in str(error.value) and str(images.dtype) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('config, words', [
    (dict(width=16), ['config', "'width'", 'base_width']),
    (dict(base_width=0), ['base_width', '0', 'from 1 to']),
    (dict(base_width=16.0), ['base_width', '16.0']),
    (dict(depth=True), ['depth', 'True']),
    (dict(in_channels='3'), ['in_channels', "'3'"]),
    (dict(out_channels=-1), ['out_channels', '-1']),
    (dict(downsample_mode='max'), ['downsample_mode', "'max'", 'mp', 'str_conv_bn']),
    (dict(upsample_mode=None), ['upsample_mode', 'None', 'tr', 'ups']),
    ('mp-tr', ['config', 'str', 'dict']),
    (None, ['config', 'NoneType'])])
def test_wrong_configs_are_refused(config, words):
    with pytest.raises(ValueError) as error:
        create_model(config)
    assert str(error.value).startswith(words[0] + ':') and all(word in str(error.value) for word in words) and '\n' not in str(error.value)


@pytest.mark.parametrize('seed', [-1, 1.5, '0', True, 2**63])
def test_wrong_seeds_are_refused(seed):
    with pytest.raises(ValueError, match='^seed: '):
        small(seed=seed)


def test_seed_gives_the_same_weights_and_leaves_the_global_stream():
    config = dict(base_width=4, downsample_mode='mp', upsample_mode='ups')
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = create_model(config, seed=0).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    second, other = create_model(config, seed=0).state_dict(), create_model(config, seed=1).state_dict()
    assert list(first) == list(second) == list(other)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if key.endswith('0.weight') and first[key].ndim == 4)


def test_without_a_seed_the_global_stream_decides():
    torch.manual_seed(5)
    first, second = (small(seed=None).head.weight for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(first, small(seed=None).head.weight) and not torch.equal(first, second)


def test_config_rebuilds_the_model_and_may_be_any_mapping():
    from types import MappingProxyType
    model = small('str_conv_bn', 'ups', out_channels=2)
    again = create_model(MappingProxyType(model.config), seed=0)
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    assert model.config == dict(in_channels=3, out_channels=2, base_width=4, depth=4, downsample_mode='str_conv_bn', upsample_mode='ups')


@pytest.mark.parametrize('down, up', MODES)
def test_parameters_at_width_64(down, up):
    with torch.device('meta'):
        model = UNet(downsample_mode=down, upsample_mode=up)
    assert count_parameters(model) == PARAMETERS[f'{down}-{up}']
    assert 12e9 < count_macs(model, 128) < 17e9


def test_macs_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(4, 4, 3, groups=2),
                           nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    by_hand = 8 * 3 * 9 * 5 * 5 + 8 * 4 * 4 * 5 * 5 + 4 * 2 * 9 * 8 * 8 + 4 * 5
    assert count_macs(layers, 10) == by_hand


def test_macs_of_a_module_that_is_called_twice():
    twice = nn.Conv2d(3, 3, 3, padding=1)
    assert count_macs(nn.Sequential(twice, twice), 8) == 2 * 3 * 3 * 9 * 8 * 8
    assert macs_by_module(nn.Sequential(nn.ReLU(), twice), 8) == {'': 3 * 3 * 9 * 8 * 8, '1': 3 * 3 * 9 * 8 * 8}
    assert count_macs(nn.ReLU(), 8) == 0


def test_macs_of_a_small_unet_by_hand():
    model = UNet(base_width=2, depth=1, downsample_mode='str_conv', upsample_mode='tr')
    encoder, down, bottleneck = (9 * 3 * 2 + 9 * 2 * 2) * 64, 9 * 2 * 2 * 16, (9 * 2 * 4 + 9 * 4 * 4) * 16
    up, decoder, head = 4 * 2 * 4 * 16, (9 * 4 * 2 + 9 * 2 * 2) * 64, 2 * 64
    assert [row['macs'] for row in stage_table(model, 8)] == [encoder, down, bottleneck, up, decoder, head, encoder + down + bottleneck + up + decoder + head]
    ups = UNet(base_width=2, depth=1, downsample_mode='mp', upsample_mode='ups')
    assert [row['macs'] for row in stage_table(ups, 8)][1:4] == [0, bottleneck, 9 * 4 * 2 * 64]


def test_counting_leaves_the_model_alone():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, 16)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match=r'^images: shape \(2, 3, 0, 0\)'):
        stage_table(model, 0)
    assert not any(module._forward_hooks for module in model.modules())


def test_counting_cleans_up_after_an_error():
    model = small()
    with pytest.raises(ValueError):
        count_macs(model, 16, in_channels=2)
    assert not any(module._forward_hooks for module in model.modules())


def test_stage_table_follows_the_forward_pass():
    model = small('str_conv', 'ups')
    rows = stage_table(model, 60)
    levels = range(1, 5)
    assert [row['stage'] for row in rows] == [name for l in levels for name in (f'encoder {l}', f'down {l}')] + ['bottleneck'] + \
        [name for l in reversed(levels) for name in (f'up {l}', f'decoder {l}')] + ['head', 'total']
    shapes = {row['stage']: row['shape'] for row in rows}
    assert shapes['encoder 1'] == (4, 64, 64) and shapes['down 4'] == (32, 4, 4) and shapes['bottleneck'] == (64, 4, 4)
    assert shapes['up 4'] == shapes['decoder 4'] == (32, 8, 8) and shapes['decoder 1'] == (4, 64, 64) and shapes['total'] == (1, 60, 60)
    assert rows[-1]['params'] == count_parameters(model) == sum(row['params'] for row in rows[:-1])
    assert rows[-1]['macs'] == count_macs(model, 60) == sum(row['macs'] for row in rows[:-1])


def test_another_mode_is_one_line(monkeypatch):
    monkeypatch.setitem(DOWNSAMPLE, 'avg', lambda channels: nn.AvgPool2d(2))
    monkeypatch.setitem(UPSAMPLE, 'shuffle', lambda channels: nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.PixelShuffle(2)))
    model = small('avg', 'shuffle')
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 1, 20, 20)
    assert isinstance(model.down[0], nn.AvgPool2d) and count_macs(model, 16) > 0
    assert 'avg-shuffle' in draw_unet(model.config, 16).axes[0].get_title()


def test_markdown_table():
    rows = [dict(name='a|b', n=12345, x=0.123456, shape=(2, 3), no=None, yes=True), dict(name='c', n=None, x=2.0, shape=(1,), no=None, yes=False)]
    assert markdown_table(rows).splitlines() == [
        '| name | n | x | shape | no | yes |', '| --- | ---: | ---: | --- | --- | ---: |',
        '| a\\|b | 12,345 | 0.1235 | 2 × 3 | – | True |', '| c | – | 2 | 1 | – | False |']
    assert markdown_table(rows, dict(n='count')).splitlines()[0] == '| count |' and markdown_table([]) == ''


def test_short_number():
    assert [short_number(n) for n in (0, 999, 1000, 1728, 221_440, 999_999, 31_043_521, 12_041_846_784)] == \
        ['0', '999', '1.00 k', '1.73 k', '221 k', '1.00 M', '31.0 M', '12.0 G']


def test_report_changes_with_the_modes():
    reports = {(down, up): architecture_report(dict(base_width=4, downsample_mode=down, upsample_mode=up), 32) for down, up in MODES}
    drawings = {}
    for (down, up), report in reports.items():
        image, = Page(report).all('img')
        drawings[down, up] = base64.b64decode(image['src'].partition(',')[2]).decode()
        assert f'>{down}-{up}, width 4, 32 px' in drawings[down, up] and drawings[down, up].count(f'>{down}: ') == drawings[down, up].count(f'>{up}: ') == 4
        assert f'down blocks {down} and up blocks {up}' in image['alt'] and f'data-state="down-{down} up-{up} width-4"' in report
        assert '<td>64 × 2 × 2</td>' in report and re.search(rf'<tr><td>total</td><td>[^<]*</td><td>{count_parameters(small(down, up)):,}</td>', report)
    assert len(set(drawings.values())) == len(MODES)


def test_explorer_shows_the_report():
    box = architecture_explorer(size=16)
    down, up, width, drawing, style = box.children
    assert list(down.options) == list(DOWNSAMPLE) and list(up.options) == list(UPSAMPLE)
    width.value = 4
    down.value, up.value = 'str_conv', 'ups'
    assert drawing.value == architecture_report(dict(base_width=4, downsample_mode='str_conv', upsample_mode='ups'), 16)
    for control in ('down', 'up', 'width'): assert f'.uc-architecture-{control} ' in style.value  # while the kernel is busy: tests/test_browser.py


def test_explorer_says_what_cannot_be_drawn(monkeypatch):
    monkeypatch.setitem(DOWNSAMPLE, 'wrong', lambda channels: torch.nn.Conv2d(channels + 1, channels, 2, 2))
    box = architecture_explorer(size=16)
    down, _, width, drawing, _ = box.children
    width.value = 4
    good, down.value = drawing.value, 'wrong'
    assert 'role="alert"' in drawing.value and 'Error: ' in drawing.value and 'data-state' not in drawing.value
    down.value = 'mp'
    assert drawing.value == good


def test_two_changes_at_once_are_drawn_one_after_the_other(monkeypatch):
    "A kernel may answer two controls in two threads; what stays is what both of them say."
    made, begun = [], threading.Event()
    def report(config, size):
        made.append('begun')
        begun.set()
        time.sleep(.5 if len(made) == 1 else .01)  # the first drawing takes longer
        made.append('{downsample_mode}-{upsample_mode}'.format(**config))
        return made[-1]
    box = architecture_explorer(size=16)
    monkeypatch.setattr(architecture, 'architecture_report', report)
    down, up, _, drawing, _ = box.children
    first = threading.Thread(target=setattr, args=(up, 'value', 'ups'))
    first.start()
    assert begun.wait(10)
    down.value = 'str_conv'
    first.join(10)
    assert made[0::2] == ['begun'] * 2 and drawing.value == 'str_conv-ups', made


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def test_twin_is_plain_html_with_one_picture_per_combination():
    html = architecture_twin(base_width=4, size=16, prefix='here')
    page = Page(html)
    radios, images, panels = page.all('input'), page.all('img'), page.all('figure')
    ids = [attrs['id'] for _, attrs in page.tags if 'id' in attrs]
    assert len(ids) == len(set(ids)) == len(radios) == 5 and all(id.startswith('here-') for id in ids)
    assert [label['for'] for label in page.all('label')] == ids and all(radio['type'] == 'radio' for radio in radios)
    assert [radio['id'] for radio in radios if 'checked' in radio] == ['here-down-mp', 'here-up-tr']
    assert len(panels) == len(images) == len({image['src'] for image in images}) == 6
    assert all(f'{down} and up blocks {up}' in image['alt'] for (down, up), image in zip(MODES, images))
    for (down, up), panel in zip(MODES, panels):
        assert f'here-{down}-{up}' in panel['class'].split()
        assert re.search(rf'#here-down-{down}:checked ~ #here-up-{up}:checked ~ \.here-{down}-{up}\b(?!_)', html)
    assert ':focus-visible' in html and '<script' not in html and len(html) < 300_000
    assert architecture_twin(base_width=4, size=16, prefix='here') == html


def test_import_needs_no_plots_or_widgets():
    code = "import sys, unet_course.factory; print([m for m in ('matplotlib', 'ipywidgets', 'torchvision', 'torchmetrics') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
