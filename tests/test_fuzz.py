"""Files from strangers: pictures and weights that are damaged, hostile or merely odd end in a result or in one clear line."""
import io
import os
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runs import processes
from unet_course.prediction import predict_files, predict_mask
from unet_course.support.pictures import LONGEST_SIDE
from unet_course.factory import create_model
from unet_course.support.files import CourseError
from unet_course.prediction import Segmenter, load_weights, save_weights

CONFIG = dict(model=dict(base_width=2, depth=1), size=32)
quiet = dict(log=lambda line: None)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'best.pth'
    save_weights(path, create_model(CONFIG['model'], seed=0).state_dict(), CONFIG)
    return path


@pytest.fixture(scope='module')
def segmenter(weights): return Segmenter.load(weights)


def call(capsys, *words):
    from unet_course.cli import main
    with pytest.raises(SystemExit) as stop: main([str(w) for w in words])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def mutated(data: bytes, draws: random.Random) -> bytes:
    "One to four random changes: bytes flipped, a piece cut out, doubled, overwritten or torn off."
    data = bytearray(data)
    for _ in range(draws.randint(1, 4)):
        if not data: break
        at, length = draws.randrange(len(data)), draws.choice((1, 2, 4, 16, 200))
        kind = draws.randrange(6)
        if kind == 0: data[at] ^= 1 << draws.randrange(8)
        elif kind == 1: data[at:at + length] = b''
        elif kind == 2: data[at:at] = data[at:at + length]
        elif kind == 3: data[at:at + length] = bytes([draws.choice((0, 255))]) * len(data[at:at + length])
        elif kind == 4: data[at:at + 4] = draws.randbytes(4)
        elif draws.random() < 0.3: del data[at:]
    return bytes(data)


def pictures() -> dict:
    "One small file of each kind that Pillow writes and people have."
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (20, 28, 3), dtype=np.uint8))
    files = {}
    def add(name, picture, **options):
        buffer = io.BytesIO()
        picture.save(buffer, **options)
        files[name] = buffer.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    add('plain.jpg', rgb, format='JPEG')
    add('turned.jpg', rgb, format='JPEG', exif=exif)
    add('cmyk.jpg', rgb.convert('CMYK'), format='JPEG', progressive=True)
    add('plain.png', rgb, format='PNG')
    add('alpha.png', rgb.convert('RGBA'), format='PNG')
    add('palette.png', rgb.quantize(16), format='PNG', transparency=3)
    add('deep.png', Image.fromarray(rng.integers(0, 65535, (20, 28), dtype=np.uint16)), format='PNG')
    add('moving.gif', rgb.quantize(32), format='GIF', save_all=True, append_images=[Image.new('P', (28, 20))])
    add('plain.bmp', rgb, format='BMP')
    add('plain.webp', rgb, format='WEBP')
    add('plain.tiff', rgb, format='TIFF', compression='tiff_lzw')
    add('deep.tiff', Image.fromarray(rng.integers(0, 65536, (20, 28), dtype=np.uint16)), format='TIFF')
    return files


def test_mutated_pictures(segmenter, tmp_path):
    "12 kinds, 32 mutations of each: a whole mask, or one line with the file's name, and never a leftover."
    draws, photos, masks = random.Random(0), tmp_path / 'photos', tmp_path / 'masks'
    photos.mkdir()
    for name, data in pictures().items():
        for k in range(32): (photos / f'{k:02}-{name}').write_bytes(mutated(data, draws))
    with warnings.catch_warnings(record=True) as said: failures = predict_files([photos], segmenter, masks, **quiet)
    names = sorted(p.name for p in photos.iterdir())
    assert len(names) == 384
    written = sorted(p.name for p in masks.iterdir())
    assert len(written) + len(failures) == len(names) and 50 < len(written) < 350 and not said
    for name in written:
        with Image.open(masks / name) as mask: assert name.endswith('.png') and mask.mode == 'L' and set(np.unique(mask)) <= {0, 255}
    for line in failures: assert '\n' not in line and str(photos) in line and ('not a picture' in line or 'cannot be read' in line), line


def test_mutated_weights(weights, tmp_path):
    "400 mutations, half of them in the pickled part: a finite network, or one line with the file's name."
    whole, path, draws, good = weights.read_bytes(), tmp_path / 'mutated.pth', random.Random(1), 0
    with zipfile.ZipFile(weights) as file: pickled, = [file.read(name) for name in file.namelist() if name.endswith('data.pkl')]
    start = whole.index(pickled)
    for k in range(400):
        if k % 2: data = mutated(whole, draws)
        else: data = whole[:start] + (mutated(pickled, draws) + bytes(len(pickled)))[:len(pickled)] + whole[start + len(pickled):]
        path.write_bytes(data)
        try: loaded = Segmenter.load(path)
        except CourseError as error: assert str(path) in str(error) and '\n' not in str(error) and len(str(error)) < 600
        else:
            good += 1
            assert predict_mask(loaded, Image.new('RGB', (5, 4))).size == (5, 4)
    assert 5 < good < 395


class Call:
    "Pickles as a call of a function, which is what a hostile file would do."
    def __init__(self, function, *args): self.call = function, args
    def __reduce__(self): return self.call


def hostile(state):
    "Files that are well formed and mean harm, or are merely wrong: name -> (what is stored, words of the refusal)."
    some = 'head.weight'
    with_model = lambda **model: dict(config=dict(CONFIG, model=dict(CONFIG['model'], **model)), state=state)
    with_state = lambda **changed: dict(config=CONFIG, state=dict(state, **{some: changed['value']}))
    with_config = lambda **config: dict(config=dict(CONFIG, **config), state=state)
    return {
        'wide': (with_model(base_width=4096), 'in the file'), 'wider': (with_model(base_width=10**9), 'base_width'), 'beyond': (with_model(base_width=10**30), 'base_width'),
        'deep': (with_model(depth=10), 'in the file'), 'deeper': (with_model(depth=10**9), 'depth'), 'negative': (with_model(base_width=-1), 'base_width'),
        'text': (with_model(base_width='2'), 'base_width'), 'fraction': (with_model(depth=1.0), 'depth'), 'truth': (with_model(depth=True), 'depth'),
        'mode': (with_model(downsample_mode='nothing'), 'downsample'), 'list mode': (with_model(upsample_mode=['tr']), 'together'), 'unknown': (with_model(colour='red'), 'colour'),
        'size 0': (with_config(size=0), 'size'), 'size text': (with_config(size='64'), 'size'), 'size huge': (with_config(size=10**6), 'size'), 'size nan': (with_config(size=float('nan')), 'size'),
        'model a list': (with_config(model=[1]), 'config'), 'no model': (dict(config={}, state=state), 'model'), 'config a list': (dict(config=[1], state=state), 'together'),
        'config a tensor': (dict(config=torch.zeros(3), state=state), 'together'), 'config text': (dict(config='model', state=state), 'together'), 'config none': (dict(config=None, state=state), 'together'),
        'nan': (with_state(value=torch.full_like(state[some], float('nan'))), 'not finite'), 'inf': (with_state(value=torch.full_like(state[some], float('inf'))), 'not finite'),
        'whole numbers': (with_state(value=state[some].long()), some), 'complex': (with_state(value=state[some].to(torch.complex64)), some), 'shape': (with_state(value=state[some][:, :1]), some),
        'text weight': (with_state(value='weights'), 'dict of tensors'), 'none weight': (with_state(value=None), 'dict of tensors'), 'sparse': (with_state(value=state[some].to_sparse()), 'dict of tensors'),
        'missing': (dict(config=CONFIG, state={k: v for k, v in state.items() if k != some}), some), 'extra': (dict(config=CONFIG, state=dict(state, extra=torch.zeros(1))), 'extra'),
        'number keys': (dict(config=CONFIG, state={1: torch.zeros(1)}), 'together'), 'state a list': (dict(config=CONFIG, state=[1, 2]), 'dict of tensors'), 'state empty': (dict(config=CONFIG, state={}), 'together'),
        'a tensor': (torch.zeros(3), 'together'), 'a list': ([1, 2], 'together'), 'a number': (7, 'together'), 'nothing': ({}, 'together'),
        'repeated': (dict(config=dict(CONFIG, model=dict(base_width=4096, depth=1)), state={k: torch.zeros(()).expand(v.shape) if v.is_floating_point() else v
                     for k, v in meta_state(base_width=4096, depth=1).items()}), 'larger than the file'),
        'code': (dict(config=Call(os.system, 'true'), state=state), 'not a weights file'), 'eval': (dict(config=CONFIG, state=Call(eval, '1')), 'not a weights file'),
    }


def meta_state(**config):
    with torch.device('meta'): state = create_model(config).state_dict()
    return {k: v if v.is_floating_point() else torch.zeros(v.shape, dtype=v.dtype, device='cpu') for k, v in state.items()}


def test_hostile_weights(weights, tmp_path, capsys):
    cases = hostile(torch.load(weights, weights_only=True)['state'])
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    for name, (stored, words) in cases.items():
        path = tmp_path / f'{name}.pth'
        torch.save(stored, path)
        with pytest.raises(ValueError) as error, warnings.catch_warnings(action='error'): load_weights(path)
        text = str(error.value)
        assert text.startswith(str(path)) and words in text.removeprefix(str(path)) and '\n' not in text, (name, text)
        code, out, err = call(capsys, 'predict', tmp_path / 'a.png', '--weights', path, '--out', tmp_path / 'mask.png')
        assert code == 2 and err.count('\n') == 1 and not (tmp_path / 'mask.png').exists(), (name, err)


def test_half_precision_weights_are_taken(weights, tmp_path):
    stored = torch.load(weights, weights_only=True)
    stored['state'] = {k: v.half() if v.is_floating_point() else v for k, v in stored['state'].items()}
    torch.save(stored, tmp_path / 'half.pth')
    loaded, _ = load_weights(tmp_path / 'half.pth')
    assert all(v.dtype != torch.float16 for v in loaded.state_dict().values())
    assert all(torch.equal(v, stored['state'][k].float()) for k, v in loaded.named_parameters())


def test_loading_draws_no_random_numbers(weights):
    before = torch.get_rng_state()
    load_weights(weights)
    assert torch.equal(before, torch.get_rng_state())


def test_an_archive_that_unpacks_to_more_than_itself(weights, tmp_path):
    stored = torch.load(weights, weights_only=True)
    torch.save(stored | dict(more=torch.zeros(10**6)), tmp_path / 'large.pth')
    with zipfile.ZipFile(tmp_path / 'large.pth') as large, zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as bomb:
        for name in large.namelist(): bomb.writestr(name, large.read(name))
    assert (tmp_path / 'bomb.pth').stat().st_size < 10**5
    load_weights(tmp_path / 'large.pth')
    with pytest.raises(ValueError, match='bomb.pth: not a weights file'): load_weights(tmp_path / 'bomb.pth')


# Photos.

def bomb(path):
    "A valid PNG that announces 20000 x 20000 pixels, in 120 bytes."
    import struct, zlib
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 20000, 20000, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b''))


BAD = {'text.jpg': (lambda p: p.write_text('hello'), 'not a picture'), 'empty.jpg': (lambda p: p.write_bytes(b''), 'not a picture'),
       'bomb.png': (bomb, 'decompression bomb'), 'torn.png': (lambda p: p.write_bytes(pictures()['plain.png'][:300]), 'cannot be read'),
       'long.png': (lambda p: Image.new('L', (LONGEST_SIDE + 1, 1)).save(p), f'at most {LONGEST_SIDE}'), 'none.png': (lambda p: None, 'no such file'),
       'folder.jpg': (lambda p: p.mkdir(), 'no pictures'), 'svg.png': (lambda p: p.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>'), 'not a picture'),
       'pickle.png': (lambda p: torch.save({}, p), 'not a picture'), 'float.tiff': (lambda p: Image.fromarray(np.ones((20, 28), dtype=np.float32)).save(p), 'fractions')}


@pytest.mark.parametrize('name', list(BAD))
def test_bad_photos_end_in_one_line_and_exit_code_2(weights, tmp_path, capsys, name):
    make, words = BAD[name]
    make(tmp_path / name)
    code, out, err = call(capsys, 'predict', tmp_path / name, '--weights', weights, '--out', tmp_path / 'mask.png')
    assert code == 2 and out == '' and err.count('\n') == 1 and err.startswith('unet-course: error: ') and name in err and words in err, err
    assert {p.name for p in tmp_path.iterdir()} <= {name}


def test_a_folder_of_good_and_bad(weights, tmp_path, capsys):
    photos = tmp_path / 'photos'
    photos.mkdir()
    for name, data in pictures().items(): (photos / name).write_bytes(data)
    for name, (make, _) in BAD.items(): make(photos / name)
    (photos / '._plain.jpg').write_bytes(b'left by a Mac')
    (photos / 'notes.txt').write_text('no picture, and nobody said it was')
    code, out, err = call(capsys, 'predict', photos, '--weights', weights, '--out', tmp_path / 'masks')
    expected = sorted(f'{name}.png' for name in pictures())  # plain.jpg and plain.png: the whole name, since the stems collide
    assert code == 2 and sorted(os.listdir(tmp_path / 'masks')) == expected
    assert err.count('\n') == len(BAD) - 1 and out.count('\n') == len(expected)  # none.png is not there
    for name in BAD: assert name in err or name == 'none.png'
    with Image.open(tmp_path / 'masks/turned.jpg.png') as mask: assert mask.size == (20, 28)  # as people see it
    for kind in ('cmyk.jpg', 'deep.png', 'moving.gif', 'deep.tiff'):
        with Image.open(tmp_path / f'masks/{kind}.png') as mask: assert mask.size == (28, 20)


def test_masks_never_replace_pictures_or_each_other(segmenter, tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        Image.new('RGB', (9, 9)).save(tmp_path / folder / 'x.png')
    before = (tmp_path / 'a/x.png').read_bytes()
    with pytest.raises(ValueError, match='would replace the picture'): predict_files([tmp_path / 'a'], segmenter, tmp_path / 'a', **quiet)
    with pytest.raises(ValueError, match='would replace the picture'): predict_files([tmp_path / 'a/x.png'], segmenter, tmp_path / 'a/../a/x.png', **quiet)
    with pytest.raises(ValueError, match='same name'): predict_files([tmp_path / 'a', tmp_path / 'b'], segmenter, tmp_path / 'masks', **quiet)
    assert (tmp_path / 'a/x.png').read_bytes() == before and not (tmp_path / 'masks').exists()
    assert predict_files([tmp_path / 'a/x.png', tmp_path / 'a/x.png'], segmenter, tmp_path / 'masks', **quiet) == []


def test_a_full_disk_while_masks_are_written(segmenter, tmp_path, monkeypatch):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.png')
    def full(self, file, **options):
        file.write(b'half')
        raise OSError(28, 'No space left on device')
    (tmp_path / 'mask.png').write_bytes(b'old')
    monkeypatch.setattr(Image.Image, 'save', full)
    failure, = predict_files([tmp_path / 'a.png'], segmenter, tmp_path / 'mask.png', **quiet)
    assert 'mask.png' in failure and 'No space left' in failure
    assert (tmp_path / 'mask.png').read_bytes() == b'old' and sorted(os.listdir(tmp_path)) == ['a.png', 'mask.png']


@pytest.mark.parametrize('size', [(1, 1), (1, 20000), (20000, 1), (2, 3), (LONGEST_SIDE, 1)])
def test_absurd_sizes(segmenter, tmp_path, size):
    Image.new('RGB', size, 'orange').save(tmp_path / 'a.png')
    assert predict_files([tmp_path / 'a.png'], segmenter, tmp_path / 'm.png', **quiet) == []
    with Image.open(tmp_path / 'm.png') as mask: assert mask.size == size


def measure_peak(photo, weights, answer):
    "In a process of its own: the memory that predicting one photo adds to what a tiny one needed."
    import resource
    torch.set_num_threads(1)
    segmenter = Segmenter.load(weights)
    Image.new('RGB', (9, 9)).save(f'{answer}.png')
    predict_files([Path(f'{answer}.png')], segmenter, Path(f'{answer}.mask.png'), **quiet)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failures = predict_files([photo], segmenter, Path(f'{answer}.mask.png'), **quiet)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Image.open(f'{answer}.mask.png') as mask: size = mask.size
    Path(answer).write_text(f'{before} {after} {size[0]} {size[1]} {len(failures)}')


@pytest.mark.skipif(os.name == 'nt', reason='the resource module is POSIX')
@pytest.mark.parametrize('kind, copies', [('jpg', 1), pytest.param('turned.jpg', 2, marks=pytest.mark.slow), pytest.param('rgba.png', 4, marks=pytest.mark.slow)])
def test_memory_of_a_large_photo(tmp_path, capsys, kind, copies):
    """Pillow keeps 4 bytes a pixel: 183 MiB for 8000 x 6000. A JPEG needs that once, a turned one twice for a moment, transparency is laid over white (4 times).
    When the photo is gone, the map takes 4 bytes a pixel, three times for a moment (as Pillow hands it to NumPy); 100 MiB are granted for the rest."""
    width, height = 8000, 6000
    grey = Image.linear_gradient('L').resize((width, height))
    photo = Image.merge('RGBA', [grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), grey, grey]) if kind == 'rgba.png' else Image.merge('RGB', [grey] * 3)
    exif = Image.Exif()
    if kind == 'turned.jpg': exif[0x0112] = 6
    path, weights = tmp_path / f'large.{kind}', tmp_path / 'best.pth'
    photo.save(path, **(dict(compress_level=1) if kind == 'rgba.png' else dict(exif=exif)))
    del photo, grey
    save_weights(weights, create_model(dict(base_width=4), seed=0).state_dict(), dict(model=dict(base_width=4), size=128))
    child = processes.Process(target=measure_peak, args=(path, weights, tmp_path / 'answer'))
    child.start()
    child.join(180)
    before, after, *size, failed = map(int, (tmp_path / 'answer').read_text().split())
    peak = (after - before) / 2**10 * (1 if os.uname().sysname == 'Linux' else 2**-10)
    with capsys.disabled(): print(f'\n8000x6000 {kind}: {peak:.0f} MiB above the {before // 2**10} MiB of the program')
    assert failed == 0 and tuple(size) == ((height, width) if kind == 'turned.jpg' else (width, height))
    photo_mib = width * height * 4 / 2**20
    assert 0.5 * photo_mib < peak < max(copies, 3) * photo_mib + 100
