"""Prediction: a Segmenter keeps what its network needs, takes what people pass, and writes masks whole or not at all."""
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from unet_course.cli import main
from unet_course.data import normalize
from unet_course.factory import create_model
from unet_course.prediction import Segmenter, load_pretrained, load_weights, predict, predict_files, predict_mask, save_weights
from unet_course.support.files import CourseError, package_folder
from unet_course.support.pictures import mask_paths, open_photo, to_photo, to_rgb

quiet = dict(log=lambda line: None)


@pytest.fixture
def segmenter(): return Segmenter(create_model(dict(base_width=4, depth=2), seed=0).eval(), 32)


@pytest.fixture
def noise(): return Image.effect_noise((40, 20), 60).convert('RGB')


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop: main([str(w) for w in words])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


# The network with what it is used with.

def test_nothing_is_guessed_about_a_bare_network(segmenter, noise):
    with pytest.raises(CourseError, match='size='): predict(segmenter.model, noise)
    with pytest.raises(CourseError, match='size='): predict_mask(segmenter.model, noise)
    assert not hasattr(load_pretrained('mp', 'tr', 'bce').model, 'trained_size') and not hasattr(load_weights(package_folder() / 'weights/mp-tr-bce.pth')[0], 'threshold')
    assert np.array_equal(predict(segmenter.model, noise, size=32), segmenter.probability(noise))
    assert not np.array_equal(predict(segmenter, noise, size=48), segmenter.probability(noise))


@pytest.mark.parametrize('changed, said', [(dict(size=31), 'size=31'), (dict(size=64.0), 'size=64.0'), (dict(threshold=1.0), 'threshold=1.0'), (dict(threshold=float('nan')), 'nan'),
                                           (dict(value_range=(9, 9)), 'black and white'), (dict(value_range=(0, float('nan'))), 'black and white')])
def test_what_is_not_allowed_is_refused_by_name(tmp_path, segmenter, changed, said):
    with pytest.raises(CourseError, match=said): Segmenter(segmenter.model, **dict(size=32) | changed)
    save_weights(tmp_path / 'a.pth', segmenter.model.state_dict(), dict(model=segmenter.model.config, size=32) | changed)
    with pytest.raises(CourseError, match=f'a.pth.*{said}'): Segmenter.load(tmp_path / 'a.pth')


def test_a_file_keeps_size_threshold_and_range(tmp_path, segmenter, noise):
    path = Segmenter(segmenter.model, 48, .3, (0, 4095), dict(variant='mp-tr-bce', seed=3)).save(tmp_path / 'a.pth')
    again = Segmenter.load(path)
    assert (again.size, again.threshold, again.value_range, again.config['variant'], again.config['seed']) == (48, .3, (0, 4095), 'mp-tr-bce', 3)
    assert not again.model.training and np.array_equal(again.probability(noise), predict(segmenter, noise, size=48))
    deep = Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 5)
    assert np.array_equal(again.probability(deep), again.probability(to_rgb(deep, (0, 4095)))) and not np.array_equal(again.probability(deep), again.probability(to_rgb(deep)))


def test_an_old_file_without_threshold_and_range_still_loads(tmp_path, segmenter):
    save_weights(tmp_path / 'old.pth', segmenter.model.state_dict(), dict(model=segmenter.model.config, size=64))
    found = Segmenter.load(tmp_path / 'old.pth')
    assert (found.size, found.threshold, found.value_range) == (64, .5, (0, 65535))
    with pytest.raises(CourseError, match='none.pth: no such weights file'): Segmenter.load(tmp_path / 'none.pth')


def test_a_network_in_training_is_asked_as_it_will_be_used_and_trains_on(segmenter, noise):
    asked = segmenter.probability(noise)
    segmenter.model.train()
    assert np.array_equal(segmenter.probability(noise), asked) and segmenter.model.training


def test_shipped_networks_know_their_threshold():
    stored = torch.load(package_folder() / 'weights/mp-tr-bce.pth', weights_only=True)['config']
    found = load_pretrained('mp', 'tr', 'bce')
    assert (found.size, found.threshold) == (stored['size'], stored['threshold'])
    with pytest.raises(CourseError, match='no trained weights of str_conv_bn-tr-bce'): load_pretrained('str_conv_bn', 'tr', 'bce')


# From the network's square to the photo.

@pytest.mark.parametrize('height, width', [(96, 96), (451, 300), (100, 1000), (2000, 97)])
def test_maps_are_enlarged_as_torch_does_it(height, width):
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = torch.nn.Parameter(torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0)))
        def forward(self, images): return self.logits * 1
    full = Segmenter(Fixed(), 96).full_logits(Image.new('RGB', (width, height)))
    wanted = torch.nn.functional.interpolate(Fixed().logits.detach(), (height, width), mode='bilinear')[0, 0].numpy()
    assert full.shape == (height, width) and np.abs(full - wanted).max() <= 4e-5


@pytest.mark.parametrize('size', [(1, 1), (3, 200), (640, 480)])
def test_any_size(segmenter, size):
    image = Image.effect_noise(size, 60).convert('RGB')
    probs, mask = segmenter.probability(image), segmenter.mask(image, .5)
    assert probs.shape == size[::-1] and probs.dtype == np.float32 and 0 <= probs.min() <= probs.max() <= 1
    assert mask.size == size and mask.mode == 'L' and set(np.unique(mask)) <= {0, 255}
    assert ((np.asarray(mask) == 255) == (probs > .5)).mean() > .999
    with pytest.raises(CourseError, match='threshold'): segmenter.mask(image, 1.0)


def test_masks_are_cut_at_the_threshold_asked_for_else_at_the_networks_own(segmenter, noise, tmp_path):
    noise.save(tmp_path / 'a.png')
    p = segmenter.probability(noise)
    assert p.min() < np.median(p) < p.max()
    for own, asked, cut in ((.5, None, .5), (float(np.median(p)), None, np.median(p)), (.99, float(np.quantile(p, .3)), np.quantile(p, .3))):
        one, said = Segmenter(segmenter.model, 32, own), []
        assert predict_files([tmp_path / 'a.png'], one, tmp_path / 'mask.png', asked, log=said.append) == []
        painted = (np.asarray(Image.open(tmp_path / 'mask.png')) == 255).mean()
        assert abs(painted - (p > cut).mean()) < .02 and f'{cut:g}'[:4] in said[0]
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'mask.png')), np.asarray(predict_mask(one, noise, asked)))


# What people pass.

def test_a_photo_is_turned_by_its_note_however_it_is_passed(segmenter, noise, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(tmp_path / 'turned.png', exif=exif)
    upright = noise.transpose(Image.Transpose.ROTATE_270)
    wanted = segmenter.probability(upright)
    with Image.open(tmp_path / 'turned.png') as opened: passed = [tmp_path / 'turned.png', str(tmp_path / 'turned.png'), opened, opened.convert('RGB')]
    for picture in passed:
        found = predict(segmenter, picture)
        assert found.shape == (40, 20) and np.array_equal(found, wanted)
    assert predict_mask(segmenter, tmp_path / 'turned.png').size == (20, 40)


def test_pictures_of_every_kind_give_the_same_map(segmenter, noise, tmp_path):
    noise.save(tmp_path / 'a.png')
    array = np.asarray(noise)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    wanted = segmenter.probability(noise)
    kinds = [tmp_path / 'a.png', array, np.asfortranarray(array), array[::-1].copy()[::-1], array / 255, (array / 255).astype(np.float32), tensor, tensor / 255, normalize(tensor), (tensor / 255).double().requires_grad_()]
    assert all(np.array_equal(predict(segmenter, kind), wanted) for kind in kinds)
    for several in (kinds, tuple(kinds), array[None].repeat(3, 0), tensor[None].repeat(3, 1, 1, 1) / 255):
        found = predict(segmenter, several)
        assert isinstance(found, list) and len(found) == len(several) and all(np.array_equal(one, wanted) for one in found)
    grey = np.asarray(noise.convert('L'))
    assert all(np.array_equal(predict(segmenter, kind), predict(segmenter, noise.convert('L'))) for kind in (grey, grey[..., None], torch.tensor(grey), torch.tensor(grey)[None]))


@pytest.mark.parametrize('passed, said', [
    (np.zeros((3, 20, 40), np.uint8), r'\[3, 20, 40\].*\[H, W, 3\]'), (torch.zeros(20, 40, 3), r'\[20, 40, 3\].*\[3, H, W\]'), (np.zeros((20, 40, 3), np.int64), 'int64.*uint8'),
    (np.full((20, 40, 3), 128.0), '128.*0 to 1'), (torch.full((3, 20, 40), -1.5), '-1.5.*0 to 1'), (np.full((20, 40, 3), np.nan), 'nan.*0 to 1'), (torch.zeros(3, 20, 40, dtype=torch.bool), 'bool.*uint8'),
    (np.zeros((0, 40, 3), np.uint8), r'\[0, 40, 3\]'), (np.zeros(7, np.uint8), r'\[7\]'), (b'bytes', 'bytes given.*path.*PIL.*array.*tensor'), (None, 'NoneType given'), ('nowhere.jpg', 'nowhere.jpg: no such file'), (ROOT, 'a folder; give a picture'),
    (Image.new('F', (4, 4)), 'fractions'), ([np.zeros((4, 4, 3), np.uint8), 7], 'int given')])
def test_anything_else_is_refused_in_one_line(segmenter, passed, said):
    with pytest.raises(CourseError, match=said) as error: predict(segmenter, passed)
    assert '\n' not in str(error.value)


def test_photos_of_all_kinds(tmp_path, noise):
    for mode in ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'):
        image = Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 80) if mode == 'I;16' else noise.convert(mode)
        image.save(tmp_path / 'x.png')
        opened = open_photo(tmp_path / 'x.png')
        assert opened.mode == 'RGB' and opened.size == (40, 20) and np.ptp(np.asarray(opened)) > 100, mode
    noise.convert('CMYK').save(tmp_path / 'cmyk.jpg')
    assert open_photo(tmp_path / 'cmyk.jpg').mode == 'RGB'
    noise.save(tmp_path / 'two.gif', save_all=True, append_images=[Image.new('RGB', (40, 20))])
    assert np.ptp(np.asarray(open_photo(tmp_path / 'two.gif'))) > 100


def test_the_range_of_16_bits_is_the_callers():
    ramp = np.array([[0, 100, 2048, 4095, 65535]], dtype=np.uint16)
    assert np.asarray(to_photo(Image.fromarray(ramp), (0, 4095)))[0, :, 0].tolist() == [0, 6, 127, 255, 255]
    assert np.asarray(to_photo(Image.fromarray(ramp)))[0, :, 0].tolist() == [0, 0, 7, 15, 255]


# Files.

def test_one_bad_file_does_not_lose_the_others(segmenter, noise, tmp_path, monkeypatch):
    photos, masks = tmp_path / 'photos', tmp_path / 'masks'
    photos.mkdir()
    for name in ('a.jpg', 'b.png'): noise.save(photos / name)
    (photos / 'empty.jpg').write_bytes(b'')
    (photos / 'text.png').write_text('hello')
    failures = predict_files([photos], segmenter, masks, **quiet)
    assert sorted(os.listdir(masks)) == ['a.png', 'b.png'] and len(failures) == 2 and 'empty.jpg' in failures[0] and 'text.png' in failures[1]
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    failures = predict_files([photos / 'a.jpg'], segmenter, tmp_path / 'bomb.png', **quiet)
    assert len(failures) == 1 and 'a.jpg' in failures[0] and not (tmp_path / 'bomb.png').exists()


def test_a_fault_of_ours_is_not_taken_for_a_bad_file(segmenter, noise, tmp_path, monkeypatch):
    noise.save(tmp_path / 'a.png')
    def broken(*args): raise ValueError('a bug')
    monkeypatch.setattr(segmenter, 'mask', broken)
    with pytest.raises(ValueError, match='a bug'): predict_files([tmp_path / 'a.png'], segmenter, tmp_path / 'm.png', **quiet)


@pytest.fixture
def photos(tmp_path, noise):
    (tmp_path / 'photos').mkdir()
    for name in ('a.jpg', 'b.jpg'): noise.save(tmp_path / 'photos' / name)
    return tmp_path / 'photos'


@pytest.mark.parametrize('words, said', [
    (['photos', '--out', 'm.png'], 'm.png names one file.*folder'), (['photos/*.jpg', '--out', 'm.png'], 'm.png names one file.*folder'), (['photos/a.jpg', 'photos/b.jpg', '--out', 'photos/a.jpg'], 'folder'),
    (['photos/*.gif', '--out', 'masks'], r'no pictures in photos/\*.gif'), (['photos/a.jpg', '--out', 'm.jpg'], 'm.jpg: masks are written as PNG'), (['empty', '--out', 'masks'], 'no pictures in empty')])
def test_wrong_outputs_are_said_before_anything_is_loaded(photos, tmp_path, monkeypatch, capsys, words, said):
    import re
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, 'load', lambda path: pytest.fail('a network was loaded'))
    code, out, err = call(capsys, 'predict', *words)
    assert code == 2 and out == '' and err.count('\n') == 1 and re.search(said, err), err
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != 'cache') == ['empty', 'photos']


def test_a_pattern_that_the_shell_left_alone_is_expanded(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, 'predict', 'photos/*.jpg', '--out', 'masks')
    assert code == 0 and err == '' and sorted(os.listdir('masks')) == ['a.png', 'b.png']
    code, out, err = call(capsys, 'predict', 'photos/a*.jpg', '--out', 'one.png')
    assert code == 0 and Image.open('one.png').size == (40, 20)
    (photos / '[x].jpg').write_bytes((photos / 'a.jpg').read_bytes())  # a name that only looks like a pattern
    assert mask_paths([Path('photos/[x].jpg')], Path('x.png')) == [(Path('photos/[x].jpg'), Path('x.png'))]


def test_a_person_at_a_terminal_is_told_at_once(photos, tmp_path, monkeypatch, capsys):
    import sys
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    code, out, err = call(capsys, 'predict', 'photos', '--out', 'masks')
    assert code == 0 and err == '2 pictures, network mp-tr-dice: loading\n'
