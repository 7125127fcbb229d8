"Chapter 00: reading, checking, decoding, splitting, augmenting, batching."
import io
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from PIL import Image

import unet_course.data as data
import unet_course.datasets.decode_once as decode_once
from unet_course.data import (
    AUGMENTATION, BACKGROUND, BORDER, IGNORE, PET, Pets, augment, augmentation_table, batches, course_split, epoch_order, make_targets,
    normalize, published_split, show_pets)
from unet_course.datasets.decode_once import cache_dir
from unet_course.datasets.oxford_pets import check_pets, data_root, find_pets, load_pets, read_lists, read_pair, read_pairs, require_pets
from unet_course.datasets.synthetic import pets_or_synthetic, synthetic_pets
from unet_course.support.files import CourseError
from unet_course.support.pictures import to_rgb

ROOT = Path(__file__).resolve().parent.parent
NAMES = ['beagle_1', 'Abyssinian_10', 'Abyssinian_1', 'pug_1']  # the last is the test split


def trimap_of_size(size=(60, 40)):
    trimap = np.full(size[::-1], BACKGROUND, np.uint8)
    trimap[5:30, 10:40], trimap[10:25, 15:35] = BORDER, PET
    return trimap


def make_layout(root, names=NAMES, size=(60, 40)):
    folder = Path(root) / 'oxford-iiit-pet'
    (folder / 'annotations/trimaps').mkdir(parents=True)
    (folder / 'images').mkdir()
    for i, name in enumerate(names):
        rng = np.random.default_rng(i)
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(folder / f'images/{name}.jpg')
        Image.fromarray(trimap_of_size(size)).save(folder / f'annotations/trimaps/{name}.png')
    (folder / 'annotations/trainval.txt').write_text(''.join(f'{name} {i % 37 + 1} 1 1\n' for i, name in enumerate(names[:-1])))
    (folder / 'annotations/test.txt').write_text(f'{names[-1]} 37 2 1\n')
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_layout(tmp_path / 'root')


@pytest.fixture(scope='module')
def drawn():
    return synthetic_pets(24, size=32, seed=3)


def fake_pets(counts, source='pets'):
    "Pets without content: counts[b] = (trainval, test) images of breed b + 1"
    breeds = torch.tensor([b + 1 for b, (a, t) in enumerate(counts) for _ in range(a + t)])
    test = torch.tensor([k >= a for a, t in counts for k in range(a + t)])
    n = len(breeds)
    return Pets(torch.zeros(n, 4, 4, 3, dtype=torch.uint8).permute(0, 3, 1, 2), torch.full((n, 4, 4), 2, dtype=torch.uint8), [f'x_{i}' for i in range(n)], breeds, test, source)


# ---------------------------------------------------------------- the container and the folders
def test_pets_keep_their_layout_and_their_rows_together(drawn):
    assert len(drawn) == 24 and drawn.size == 32 and '24' in repr(drawn) and len(repr(drawn)) < 100
    part = drawn.subset([5, 0, 5])
    assert part.images.is_contiguous(memory_format=torch.channels_last)
    for k, i in enumerate([5, 0, 5]):
        assert torch.equal(part.images[k], drawn.images[i]) and torch.equal(part.trimaps[k], drawn.trimaps[i])
        assert part.names[k] == drawn.names[i] and part.breeds[k] == drawn.breeds[i] and part.test[k] == drawn.test[i]
    assert drawn.to('cpu').images.is_contiguous(memory_format=torch.channels_last)
    assert drawn.to('meta').images.device.type == 'meta' and drawn.to('meta').names == drawn.names


@pytest.mark.parametrize('change, message', [
    (dict(images=torch.zeros(24, 3, 32, 48, dtype=torch.uint8)), r'images are torch.uint8 \[24, 3, 32, 48\]: give uint8 \[24, 3, 48, 48\]'),
    (dict(images=torch.zeros(24, 3, 32, 32)), 'images are torch.float32'),
    (dict(images=torch.zeros(24, 1, 32, 32, dtype=torch.uint8)), r'give uint8 \[24, 3, 32, 32\]'),
    (dict(trimaps=torch.ones(24, 1, 32, 32, dtype=torch.uint8)), r'trimaps are torch.uint8 \[24, 1, 32, 32\]: give uint8 \[24, 32, 32\]'),
    (dict(trimaps=torch.ones(24, 32, 32)), 'trimaps are torch.float32'),
    (dict(breeds=torch.ones(23, dtype=torch.int64)), '23 breeds and 24 marks of the test split for 24 names'),
    (dict(names=['one']), r'\[1, 3, 32, 32\]')], ids=lambda x: '' if isinstance(x, str) else next(iter(x)))
def test_pets_of_other_shapes_are_refused(drawn, change, message):
    with pytest.raises(ValueError, match=message): replace(drawn, **change)


def test_folders_follow_argument_then_environment(monkeypatch, tmp_path):
    monkeypatch.setenv('UNET_COURSE_DATA', str(tmp_path / 'env'))
    assert data_root() == tmp_path / 'env' and data_root(tmp_path) == tmp_path
    assert data_root('~/x') == Path.home() / 'x'
    monkeypatch.delenv('UNET_COURSE_DATA')
    assert data_root().name == 'data' and 'unet_course' in str(data_root())
    assert cache_dir() == tmp_path / 'cache'
    monkeypatch.delenv('UNET_COURSE_CACHE')
    assert cache_dir() != data_root() and 'unet_course' in str(cache_dir())


def test_import_loads_no_plotting():
    code = "import sys, unet_course.data; print([m for m in ('matplotlib', 'ipywidgets', 'torchvision', 'torchmetrics') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == '[]'


# ---------------------------------------------------------------- lists and layout
def test_lists_decide_in_the_order_of_file_names(folder):
    lines = (folder / 'annotations/trainval.txt').read_text()
    (folder / 'annotations/trainval.txt').write_text('#Image CLASS-ID SPECIES BREED ID\n\n' + lines)
    assert [row[0] for row in read_lists(folder)] == ['Abyssinian_1', 'Abyssinian_10', 'beagle_1', 'pug_1']
    assert [row[2] for row in read_lists(folder)] == [False, False, False, True]
    assert dict((row[0], row[1]) for row in read_lists(folder))['Abyssinian_1'] == 3


@pytest.mark.parametrize('line, said', [
    ('beagle_2', "'beagle_2'"), ('beagle_2 38 1 1', "'beagle_2 38 1 1'.* class of 1 to 37"), ('beagle_2 0 1 1', "'beagle_2 0 1 1'.* class of 1 to 37"),
    ('beagle_2 x 1 1', "'beagle_2 x 1 1'"), ('beagle_1 3 1 1', 'beagle_1 is in trainval.txt already')])
def test_a_faulty_line_is_named_by_file_and_number(folder, line, said):
    with open(folder / 'annotations/trainval.txt', 'a') as file: file.write(line + '\n')
    for function in (read_lists, find_pets, load_pets, check_pets, pets_or_synthetic):
        given = dict(root=folder.parent) if function is pets_or_synthetic else dict(folder=folder) if function is read_lists else dict(root=folder)
        with pytest.raises(CourseError, match=rf'annotations/trainval\.txt, line 4: {said}') as caught: function(**given)
        assert str(folder) in str(caught.value) and '\n' not in str(caught.value)


def test_a_name_in_both_lists_is_refused(folder):
    with open(folder / 'annotations/test.txt', 'a') as file: file.write('beagle_1 1 2 1\n')
    with pytest.raises(CourseError, match=r'annotations/test\.txt, line 2: beagle_1 is in trainval.txt already'): find_pets(folder)


def test_five_faults_are_shown_and_the_rest_counted(folder):
    (folder / 'annotations/trainval.txt').write_text(''.join(f'pug_{i} 0 2 1\n' for i in range(2, 14)))
    with pytest.raises(CourseError, match='line 5: .*; and 7 more') as caught: find_pets(folder)
    assert str(caught.value).count('class of 1 to 37') == 5


@pytest.mark.parametrize('encoding', ['utf-16', 'latin-1'])
def test_a_list_in_another_encoding_is_refused_by_name(folder, encoding):
    (folder / 'annotations/test.txt').write_bytes('# après unzip\npug_1 37 2 1\n'.encode(encoding))
    with pytest.raises(CourseError, match=r'annotations/test\.txt: not UTF-8 text'): find_pets(folder)


def test_lists_may_have_a_mark_at_the_start_other_line_ends_and_indented_comments(folder):
    before = read_lists(folder)
    for name in ('trainval.txt', 'test.txt'):
        path = folder / 'annotations' / name
        path.write_bytes(b'\xef\xbb\xbf  # Image CLASS-ID\r\n\t#indented\r\n  ' + path.read_bytes().replace(b'\n', b'\r\n'))
    assert read_lists(folder) == before and find_pets(folder) == folder and len(load_pets(folder, 16)) == 4


def test_endings_in_capitals_are_read(folder):
    (folder / 'images/pug_1.jpg').rename(folder / 'images/pug_1.JPG')
    (folder / 'annotations/trimaps/beagle_1.png').rename(folder / 'annotations/trimaps/beagle_1.PNG')
    assert find_pets(folder) == folder and len(load_pets(folder, 16)) == 4 and check_pets(folder)['pairs'] == 4
    (folder / 'images/pug_1.JPG').write_text('no picture')
    with pytest.raises(CourseError, match=r'images/pug_1\.jpg: not an image'): load_pets(folder, 16)


def test_find_accepts_root_or_folder_and_ignores_what_no_list_names(folder):
    (folder / 'annotations/trimaps/._beagle_1.png').write_bytes(b'\0\5\x16\7')
    (folder / 'annotations/trimaps/unlisted_1.png').write_bytes(b'')
    (folder / 'images/._pug_1.jpg').write_bytes(b'\0')
    (folder / 'images/Abyssinian_1.mat').write_bytes(b'\0')
    assert find_pets(folder.parent) == find_pets(folder) == folder
    assert check_pets(folder.parent)['pairs'] == 4
    assert len(load_pets(folder.parent, 16)) == 4


@pytest.mark.parametrize('missing', ['images/pug_1.jpg', 'annotations/trimaps/beagle_1.png', 'annotations/test.txt', 'annotations/trainval.txt'])
def test_a_missing_file_is_named(folder, missing):
    (folder / missing).unlink()
    for function in (find_pets, require_pets, load_pets, check_pets):
        with pytest.raises(CourseError, match=rf'{missing}: (missing|No such file).*unet-course download') as caught: function(folder.parent)
        assert str(folder) in str(caught.value) and '; and ' not in str(caught.value)
    with pytest.raises(CourseError, match=missing): pets_or_synthetic(16, n=3, root=folder.parent)


def test_a_half_unpacked_archive_is_named_with_the_count_of_the_rest(tmp_path):
    folder = make_layout(tmp_path / 'root', [f'pug_{i:02d}' for i in range(15)])
    for i in range(3, 15): (folder / f'images/pug_{i:02d}.jpg').unlink()
    with pytest.raises(CourseError, match=r'images/pug_03\.jpg: missing; .*images/pug_07\.jpg: missing; and 7 more'): find_pets(folder)


@pytest.mark.parametrize('missing', ['images', 'annotations/trimaps', 'annotations'])
def test_half_unpacked_is_broken_not_absent(folder, missing):
    shutil.rmtree(folder / missing)
    for function in (find_pets, load_pets):
        for root in (folder, folder.parent):
            with pytest.raises(CourseError, match=rf'{missing}/.*unet-course download'): function(root)


def test_pairs_are_not_read_far_ahead(folder, monkeypatch):
    begun = []
    monkeypatch.setattr('unet_course.datasets.oxford_pets.read_pair', lambda folder, name, size: begun.append(name))
    pairs = read_pairs(folder, [str(i) for i in range(500)])
    assert next(pairs) == ('0', None)
    pairs.close()
    assert len(begun) <= 64
    assert [name for name, _ in read_pairs(folder, [str(i) for i in range(200)])] == [str(i) for i in range(200)]


def test_two_empty_folders_are_a_broken_dataset_and_nothing_is_none(tmp_path):
    assert find_pets(tmp_path) is None and find_pets(tmp_path / 'nowhere') is None
    for function in (load_pets, check_pets, require_pets):
        with pytest.raises(CourseError, match=r'unet-course download.*811 MB.*--root or UNET_COURSE_DATA'): function(tmp_path)
    (tmp_path / 'oxford-iiit-pet').mkdir()
    with pytest.raises(CourseError, match=r'annotations/trainval\.txt: No such file'): find_pets(tmp_path)


# ---------------------------------------------------------------- strangers' files
def save_as(picture, kind, path, **options):
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    path.write_bytes(stream.getvalue())


GREEN = (0, 204, 51)  # in the web palette, so that a palette keeps it


@pytest.mark.parametrize('kind, mode', [('PNG', 'RGB'), ('GIF', 'P'), ('BMP', 'RGB'), ('JPEG', 'CMYK'), ('PNG', 'P'), ('PNG', 'RGBA'), ('TIFF', 'CMYK')])
def test_other_kinds_named_jpg_are_read(folder, kind, mode):
    save_as(Image.new('RGB', (60, 40), GREEN).convert(mode), kind, folder / 'images/pug_1.jpg')
    image, trimap, has_pet, mended = read_pair(folder, 'pug_1')
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8 and has_pet and mended
    assert np.abs(image.astype(int) - GREEN).max() <= 12
    assert check_pets(folder)['mended'] == ['pug_1']


def test_animation_gives_its_first_frame(folder):
    frames = [Image.new('RGB', (60, 40), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    save_as(frames[0], 'GIF', folder / 'images/pug_1.jpg', save_all=True, append_images=frames[1:])
    assert read_pair(folder, 'pug_1')[0][0, 0].tolist() == [255, 0, 0]


def test_greyscale_and_16_bit_keep_their_brightness(folder):
    save_as(Image.new('L', (60, 40), 90), 'JPEG', folder / 'images/pug_1.jpg')
    assert read_pair(folder, 'pug_1')[0][7, 7].tolist() == [90, 90, 90]
    save_as(Image.fromarray(np.full((40, 60), 40000, np.uint16)), 'PNG', folder / 'images/pug_1.jpg')
    assert read_pair(folder, 'pug_1')[0][7, 7].tolist() == [155, 155, 155]


def test_transparency_is_shown_on_white():
    clear, half = Image.new('RGBA', (2, 2), (0, 0, 0, 0)), Image.new('RGBA', (2, 2), (0, 0, 0, 128))
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    assert abs(to_rgb(half).getpixel((0, 0))[0] - 127) <= 1
    assert to_rgb(Image.new('LA', (2, 2), (0, 0))).getpixel((1, 1)) == (255, 255, 255)
    palette = Image.new('P', (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.info['transparency'] = 1
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_grey_of_many_bits_becomes_rgb():
    ramp = np.array([[0, 100, 200, 255]])
    for dtype, factor in ((np.uint16, 257), (np.int32, 257), (np.int32, 1)):
        assert np.asarray(to_rgb(Image.fromarray((ramp * factor).astype(dtype))))[..., 0].tolist() == ramp.tolist()
    with pytest.raises(ValueError, match='fractions'): to_rgb(Image.fromarray(ramp.astype(np.float32)))


def test_exif_turns_only_where_the_trimap_says_so(folder):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20] = 255  # white above
    tag = Image.Exif()
    tag[0x0112] = 6  # to be shown turned clockwise by a quarter
    save_as(Image.fromarray(np.rot90(upright)), 'JPEG', folder / 'images/pug_1.jpg', exif=tag, quality=95)
    image = read_pair(folder, 'pug_1')[0]  # stored 40x60, trimap 60x40
    assert image.shape == (40, 60, 3) and image[:15].mean() > 240 and image[25:].mean() < 15
    save_as(Image.fromarray(upright), 'JPEG', folder / 'images/pug_1.jpg', exif=tag, quality=95)
    image = read_pair(folder, 'pug_1')[0]  # stored 60x40 like the trimap: as it is
    assert image.shape == (40, 60, 3) and image[:15].mean() > 240


def damage(folder, how):
    image, trimap = folder / 'images/pug_1.jpg', folder / 'annotations/trimaps/pug_1.png'
    values = trimap_of_size()
    if how == 'truncated': image.write_bytes(image.read_bytes()[:-300])
    if how == 'empty': image.write_bytes(b'')
    if how == 'text': image.write_text('<html>not found</html>')
    if how == 'folder': image.unlink(), image.mkdir()
    if how == 'size': Image.new('RGB', (61, 40)).save(image)
    if how == 'turned': Image.new('RGB', (40, 60)).save(image)
    if how == 'torn trimap': trimap.write_bytes(trimap.read_bytes()[:60])
    if how == 'zeros': Image.fromarray(values - 1).save(trimap)
    if how == 'fours': Image.fromarray(values + 1).save(trimap)
    if how == 'colour trimap': Image.fromarray(np.dstack([values] * 3)).save(trimap)
    if how == 'one bit': Image.fromarray(values > 1).save(trimap)


DAMAGE = {'truncated': r'images/pug_1\.jpg', 'empty': r'images/pug_1\.jpg: not an image', 'text': r'images/pug_1\.jpg: not an image',
          'folder': r'images/pug_1\.jpg', 'size': r'images/pug_1\.jpg: the image has 61x40 pixels, its trimap 60x40', 'turned': r'images/pug_1\.jpg: the image has 40x60',
          'torn trimap': r'trimaps/pug_1\.png', 'zeros': r'trimaps/pug_1\.png: .*\[0\]', 'fours': r'trimaps/pug_1\.png: .*\[4\]',
          'colour trimap': r'trimaps/pug_1\.png: a trimap has one channel, this has 3', 'one bit': r'trimaps/pug_1\.png'}


@pytest.mark.parametrize('how', DAMAGE)
def test_damage_is_refused_by_name_with_the_count_of_the_rest(folder, how):
    damage(folder, how)
    for function in (check_pets, partial(load_pets, size=16)):
        with pytest.raises(ValueError, match=DAMAGE[how]) as caught: function(folder.parent)
        assert str(caught.value).startswith(f'1 of 4 pairs in {folder} cannot be used: ') and '\n' not in str(caught.value)
        assert str(folder) not in str(caught.value).split(': ', 1)[1]
    assert not list(cache_dir().glob('**/*.npy'))


def test_many_bad_files_are_listed_up_to_ten(tmp_path):
    names = [f'pug_{i:02d}' for i in range(15)]
    folder = make_layout(tmp_path / 'root', names)
    for name in names[:12]: (folder / f'images/{name}.jpg').write_text('x')
    with pytest.raises(ValueError, match=r'^12 of 15 pairs in .* cannot be used') as caught: check_pets(folder)
    assert str(caught.value).count('not an image') == 10 and 'and 2 more' in str(caught.value)


def test_all_background_is_counted_not_refused(folder):
    Image.fromarray(np.where(trimap_of_size() == PET, BORDER, BACKGROUND).astype(np.uint8)).save(folder / 'annotations/trimaps/beagle_1.png')
    assert check_pets(folder) == dict(pairs=4, trainval=3, test=1, all_background=['beagle_1'], mended=[])
    assert len(load_pets(folder, 16)) == 4


# ---------------------------------------------------------------- decode once
def cached(): return sorted(path for path in cache_dir().iterdir() if path.is_dir())


def test_decoded_as_pillow_would(folder):
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.parent.rglob('*'))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        pets = load_pets(folder.parent, 24)
    assert pets.source == 'pets' and pets.names == ['Abyssinian_1', 'Abyssinian_10', 'beagle_1', 'pug_1']
    assert pets.breeds.tolist() == [3, 2, 1, 37] and pets.test.tolist() == [False, False, False, True]
    assert pets.images.shape == (4, 3, 24, 24) and pets.images.is_contiguous(memory_format=torch.channels_last)
    for i, name in enumerate(pets.names):
        image = Image.open(folder / f'images/{name}.jpg').resize((24, 24), Image.Resampling.BILINEAR)
        trimap = Image.open(folder / f'annotations/trimaps/{name}.png').resize((24, 24), Image.Resampling.NEAREST)
        assert np.array_equal(pets.images[i].permute(1, 2, 0).numpy(), np.asarray(image)) and np.array_equal(pets.trimaps[i].numpy(), np.asarray(trimap))
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.parent.rglob('*')) == before  # the dataset's folder is not touched


def no_decoding(*args): raise AssertionError('decoded again')


def test_second_time_reads_the_cache_and_writes_never_reach_it(folder, monkeypatch):
    first = load_pets(folder, 16)
    original = first.images.clone()
    first.images.zero_()
    monkeypatch.setattr(decode_once, 'write_cache', no_decoding)
    assert torch.equal(load_pets(folder, 16).images, original) and original.any()
    with pytest.raises(AssertionError, match='decoded again'): load_pets(folder, 17)  # another size is another cache


@pytest.mark.parametrize('change', ['content', 'mtime', 'list'])
def test_changed_input_is_decoded_again_and_the_stale_cache_removed(folder, change):
    old, old_cache = load_pets(folder, 16).images.clone(), cached()
    load_pets(folder, 20)  # another size stays
    if change == 'content': Image.new('RGB', (60, 40), GREEN).save(folder / 'images/pug_1.jpg')
    if change == 'mtime': os.utime(folder / 'images/pug_1.jpg', (1, 1))
    if change == 'list': (folder / 'annotations/test.txt').write_text('pug_1 36 2 1\n')
    new = load_pets(folder, 16)
    assert len(cached()) == 2 and not set(old_cache) & set(cached())
    assert torch.equal(new.images[:3], old[:3]) and torch.equal(new.images[3], old[3]) == (change != 'content')
    assert new.breeds[3] == (36 if change == 'list' else 37)


@pytest.mark.parametrize('torn', ['images.npy', 'trimaps.npy'])
@pytest.mark.parametrize('left', [0, 50, -1, None])
def test_torn_cache_is_built_again(folder, torn, left):
    good = load_pets(folder, 16).images.clone()
    path = cached()[0] / torn
    if left is None: path.unlink()
    else: path.write_bytes(path.read_bytes()[:left])
    assert torch.equal(load_pets(folder, 16).images, good) and len(cached()) == 1


def test_interrupted_build_leaves_nothing_and_is_built_clean(folder, monkeypatch):
    def stop(*args): raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(np.memmap, 'flush', stop)
        with pytest.raises(KeyboardInterrupt): load_pets(folder, 16)
    assert cached() == []
    load_pets(folder, 16)
    target = cached()[0]
    os.rename(target, target.with_name(target.name + '.building'))  # as a killed process leaves it
    load_pets(folder, 16)
    assert cached() == [target]


def test_two_processes_at_once_decode_once(tmp_path):
    folder = make_layout(tmp_path / 'root', [f'pug_{i:03d}' for i in range(300)])
    code = f"from unet_course.datasets.oxford_pets import load_pets; p = load_pets({str(folder)!r}, 64); print(int(p.images.long().sum()), int(p.trimaps.long().sum()))"
    both = [subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS='1')) for _ in range(2)]
    (out, err), (out2, err2) = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], err + err2
    assert out == out2 and out.strip() and ('decoding' in err) != ('decoding' in err2)
    assert len(cached()) == 1


def test_a_disk_that_is_too_small_is_named_before_the_first_image(folder, monkeypatch):
    monkeypatch.setattr(decode_once.shutil, 'disk_usage', lambda path: type('Usage', (), dict(free=3 * 2**20)))
    with pytest.raises(CourseError, match='4 MiB are needed in .*, 3 are free.*UNET_COURSE_CACHE'): load_pets(folder, 512)
    assert cached() == []
    assert len(load_pets(folder, 256)) == 4


def test_the_wait_for_another_process_is_bounded(folder, monkeypatch):
    load_pets(folder, 16)
    lock = next(cache_dir().glob('*.lock'))
    os.utime(folder / 'images/pug_1.jpg', (1, 1))
    monkeypatch.setattr(decode_once, 'FileLock', lambda path, timeout: FileLock(path, timeout=min(timeout, .2)))
    with FileLock(lock), pytest.raises(CourseError, match='another process'): load_pets(folder, 16)
    assert len(load_pets(folder, 16)) == 4


@pytest.mark.parametrize('size', [0, 7, 1025, 64.0, '64', None])
def test_sizes_are_checked(folder, size):
    with pytest.raises(ValueError, match='size='): load_pets(folder, size)


def test_pets_or_synthetic_says_which(folder, tmp_path, capsys):
    assert pets_or_synthetic(16, n=3, root=folder.parent).source == 'pets'
    assert '4 photos of 16x16' in capsys.readouterr().out
    pets = pets_or_synthetic(16, n=3, root=tmp_path / 'nowhere')
    assert pets.source == 'synthetic' and len(pets) == 3 and '3 synthetic pets' in capsys.readouterr().out


# ---------------------------------------------------------------- splits and targets
def test_published_split_is_by_name_whatever_the_order():
    pets = fake_pets([(7, 3)])
    pets.names = ['b_10', 'B_2', 'a_1', 'A_9', 'A_10', 'c_3', 'C_1', 'b_1', 'b_2', 'a_0']
    split = published_split(pets)
    assert [pets.names[i] for i in split['train'].tolist()] == ['A_10', 'A_9', 'B_2', 'C_1', 'a_0', 'a_1', 'b_1', 'b_10']
    assert [pets.names[i] for i in split['val'].tolist()] == ['b_2', 'c_3']


@pytest.mark.parametrize('fraction', [.1, .25, .29])
def test_course_split_is_complete_disjoint_and_stratified(fraction):
    counts = [(90 + b % 11, 99) for b in range(37)]
    pets = fake_pets(counts)
    split = course_split(pets, fraction)
    assert torch.cat(list(split.values())).sort().values.tolist() == list(range(len(pets)))
    assert torch.equal(split['test'], torch.nonzero(pets.test)[:, 0])
    assert len(split['val']) == int(fraction * sum(a for a, _ in counts) + 1e-9)
    for b, (a, _) in enumerate(counts): assert abs(int((pets.breeds[split['val']] == b + 1).sum()) - fraction * a) <= 1
    again, other = course_split(pets, fraction), course_split(pets, fraction, seed=1)
    assert torch.equal(again['val'], split['val']) and not torch.equal(other['val'], split['val'])
    assert torch.equal(other['test'], split['test'])


def test_course_split_of_drawn_pets():
    split = course_split(fake_pets([(100, 0)], 'synthetic'))
    assert {part: len(rows) for part, rows in split.items()} == dict(train=70, val=10, test=20)
    assert torch.cat(list(split.values())).sort().values.tolist() == list(range(100))
    assert all(len(rows) for rows in course_split(fake_pets([(3, 0)], 'synthetic')).values())
    with pytest.raises(CourseError, match='0 pictures to train with'): course_split(fake_pets([(2, 0)], 'synthetic'))


def test_course_split_leaves_no_part_empty():
    assert len(course_split(fake_pets([(10, 0)]))['val']) == 1
    with pytest.raises(ValueError, match='9 pictures to train with and 0 to validate on'): course_split(fake_pets([(9, 4)]))
    with pytest.raises(CourseError, match='0 pictures to train with'): course_split(fake_pets([(4, 0)], 'synthetic'), .7)


@pytest.mark.parametrize('rows', [torch.tensor([True, False] * 12), np.arange(24) > 3, [True, False], [1.7], torch.ones(3)], ids=['mask', 'numpy mask', 'list', 'fraction', 'floats'])
def test_a_mask_is_not_taken_for_rows(drawn, rows):
    with pytest.raises(ValueError, match='nonzero'): drawn.subset(rows)
    with pytest.raises(ValueError, match='nonzero'): batches(drawn, rows, 4)


def test_rows_may_be_lists_arrays_or_tensors(drawn):
    for rows in ([3, 1], np.array([3, 1]), torch.tensor([3, 1], dtype=torch.int32)): assert drawn.subset(rows).names == [drawn.names[3], drawn.names[1]]
    assert len(drawn.subset([])) == 0


@pytest.mark.parametrize('fraction', [0, 1, -.1, 1.5])
def test_course_split_checks_its_fraction(drawn, fraction):
    with pytest.raises(ValueError, match='fraction='): course_split(drawn, fraction)


def test_three_border_conventions():
    trimap = torch.tensor([[[1, 2, 3]]], dtype=torch.uint8)
    for border, expected in dict(background=[1, 0, 0], pet=[1, 0, 1], ignore=[1, 0, IGNORE]).items():
        targets = make_targets(trimap, border)
        assert targets.shape == (1, 1, 1, 3) and targets.dtype == torch.uint8 and targets.flatten().tolist() == expected
    assert trimap.flatten().tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="border='edge'"): make_targets(trimap, 'edge')


def test_normalize_divides_by_255_and_only_once(drawn):
    images = normalize(drawn.images)
    assert torch.equal(images, drawn.images.float() / 255) and images.is_contiguous(memory_format=torch.channels_last)
    assert normalize(drawn.images[0]).shape == (3, 32, 32)
    with pytest.raises(ValueError, match='uint8'): normalize(images)


# ---------------------------------------------------------------- random numbers
def test_random_numbers_depend_on_seed_and_epoch_alone():
    assert torch.equal(epoch_order(50, 3, 7), torch.from_numpy(np.random.default_rng([3, 7, 0]).permutation(50)))
    assert epoch_order(50, 3, 7).sort().values.tolist() == list(range(50))
    assert not torch.equal(epoch_order(50, 3, 7), epoch_order(50, 3, 8)) and not torch.equal(epoch_order(50, 3, 7), epoch_order(50, 4, 7))
    table = augmentation_table(50, 3, 7)
    assert table.shape == (50, 8) and table.dtype == torch.float32 and 0 <= table.min() and table.max() < 1
    assert torch.equal(table, augmentation_table(50, 3, 7)) and not torch.equal(table, augmentation_table(50, 3, 8))
    state = torch.get_rng_state()
    epoch_order(5, 0, 0), augmentation_table(5, 0, 0)
    assert torch.equal(state, torch.get_rng_state())


# ---------------------------------------------------------------- augmentation
def neutral(n, **changes):
    rows = torch.full((n, 8), .5)
    for column, value in changes.items(): rows[:, dict(flip=0, scale=1, x=2, y=3, rotation=4, brightness=5, contrast=6)[column]] = value
    return rows


def test_neutral_rows_change_nothing(drawn):
    images, trimaps = augment(drawn.images, drawn.trimaps, neutral(24))
    assert torch.equal(trimaps, drawn.trimaps) and trimaps.dtype == torch.uint8
    assert images.dtype == torch.float32 and torch.allclose(images, drawn.images / 255, atol=1e-5)


def test_flip_is_a_mirror_image(drawn):
    images, trimaps = augment(drawn.images, drawn.trimaps, neutral(24, flip=.9))
    assert torch.equal(trimaps, drawn.trimaps.flip(2)) and torch.allclose(images, drawn.images.flip(3) / 255, atol=1e-5)


def test_shift_reflects_at_the_edge(drawn):
    images = drawn.images[..., :20, :20].contiguous(memory_format=torch.channels_last)
    trimaps = drawn.trimaps[:, :20, :20]
    moved, moved_trimaps = augment(images, trimaps, neutral(24, x=1.))  # 10 % of 20 pixels: looks 2 pixels to the right
    expected = torch.cat([trimaps[..., 2:], trimaps[..., -2:].flip(2)], 2)
    assert torch.equal(moved_trimaps, expected)
    assert torch.allclose(moved, torch.cat([images[..., 2:], images[..., -2:].flip(3)], 3) / 255, atol=1e-4)


def test_rotation_and_scale_move_a_dot_where_they_should():
    trimap = torch.full((1, 65, 65), BACKGROUND, dtype=torch.uint8)
    trimap[0, 30:35, 50:55] = PET  # right of the centre by 20 pixels
    image = torch.zeros(1, 3, 65, 65, dtype=torch.uint8)
    centre = lambda mask: [float(c.double().mean()) - 32 for c in torch.nonzero(mask[0] == PET).T]
    y, x = centre(augment(image, trimap, neutral(1, rotation=1.))[1])
    angle = np.deg2rad(AUGMENTATION['rotation'])
    assert abs(np.hypot(x, y) - 20) < .5 and abs(abs(np.arctan2(y, x)) - angle) < .03
    for row, zoom in ((1., 1.25), (0., .8)):
        y, x = centre(augment(image, trimap, neutral(1, scale=row))[1])
        assert abs(y) < .6 and abs(x - 20 * zoom) < .6


def test_image_and_trimap_stay_together(drawn):
    painted = (drawn.trimaps * 80)[:, None].repeat(1, 3, 1, 1).contiguous(memory_format=torch.channels_last)
    for epoch in range(3):
        rows = augmentation_table(24, 0, epoch)
        rows[:, 5:7] = .5
        images, trimaps = augment(painted, drawn.trimaps, rows)
        inside = (F.max_pool2d(trimaps[:, None].float(), 3, 1, 1) == -F.max_pool2d(-trimaps[:, None].float(), 3, 1, 1))[:, 0]  # a pixel from any edge
        inside &= ((images[:, 0] * 255 / 80).round() * 80 - images[:, 0] * 255).abs() < .1  # and not between two labels
        assert inside.double().mean() > .5
        assert torch.equal((images[:, 0] * 255 / 80).round()[inside].to(torch.uint8), trimaps[inside])


def test_no_label_is_invented(drawn):
    for value in (PET, BACKGROUND, BORDER):
        uniform = torch.full_like(drawn.trimaps, value)
        assert torch.equal(augment(drawn.images, uniform, torch.rand(24, 8))[1], uniform)
    images, trimaps = augment(drawn.images, drawn.trimaps, augmentation_table(24, 5, 5))
    assert set(trimaps.unique().tolist()) == {1, 2, 3}
    assert images.is_contiguous(memory_format=torch.channels_last) and 0 <= images.min() and images.max() <= 1
    white, _ = augment(torch.full_like(drawn.images, 200), drawn.trimaps, neutral(24) * torch.tensor([2 * torch.rand(()).item(), 1, 2, 2, 2, 1, 1, 1]))
    assert torch.allclose(white, torch.full_like(white, 200 / 255), atol=1e-4)  # nothing black comes in from outside


def test_brightness_and_contrast(drawn):
    grey = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    grey[..., :4] = 60
    trimap = torch.ones(1, 8, 8, dtype=torch.uint8)
    for column, expected in (('brightness', (72., 120.)), ('contrast', (56., 104.))):
        image = augment(grey, trimap, neutral(1, **{column: 1.}))[0] * 255
        assert torch.allclose(image[0, 0, 0, [0, 7]], torch.tensor(expected), atol=.01)


def test_one_image_is_augmented_alike_in_any_batch(drawn):
    rows = augmentation_table(24, 1, 2)
    images, trimaps = augment(drawn.images, drawn.trimaps, rows)
    for i in (0, 7, 23):
        one, one_trimap = augment(drawn.images[i:i + 1], drawn.trimaps[i:i + 1], rows[i:i + 1])
        assert torch.allclose(one[0], images[i], atol=1e-5) and torch.equal(one_trimap[0], trimaps[i])


# ---------------------------------------------------------------- batches
def test_batches_in_the_given_order(drawn):
    idx = torch.tensor([3, 1, 4, 15, 9, 2, 6])
    got = list(batches(drawn, idx, 3, border='ignore'))
    assert [len(images) for images, _ in got] == [3, 3, 1]
    images, targets = (torch.cat(part) for part in zip(*got))
    assert torch.equal(images, normalize(drawn.images[idx])) and torch.equal(targets, make_targets(drawn.trimaps[idx], 'ignore'))
    for images, targets in got:
        assert images.is_contiguous(memory_format=torch.channels_last) and images.dtype == torch.float32
        assert targets.dtype == torch.uint8 and targets.shape == (len(images), 1, 32, 32)


def test_batches_with_a_seed_follow_order_and_table(drawn):
    idx = torch.arange(2, 20)
    order = idx[epoch_order(18, 5, 1)]
    images, targets = (torch.cat(part) for part in zip(*batches(drawn, idx, 4, seed=5, epoch=1)))
    assert torch.equal(images, normalize(drawn.images[order])) and torch.equal(targets, make_targets(drawn.trimaps[order]))
    images, targets = (torch.cat(part) for part in zip(*batches(drawn, idx, 4, seed=5, epoch=1, augmented=True)))
    expected, trimaps = augment(drawn.images[order], drawn.trimaps[order], augmentation_table(24, 5, 1)[order])  # row i belongs to image i
    assert torch.allclose(images, expected, atol=1e-5) and torch.equal(targets, make_targets(trimaps))
    assert not torch.allclose(images, normalize(drawn.images[order]), atol=.1)


def test_flips_mirror_half_of_the_images_and_change_nothing_else(drawn):
    order, mirrored = epoch_order(24, 5, 1), augmentation_table(24, 5, 1)[:, 0] > .5
    assert 0 < mirrored.sum() < 24
    images, targets = (torch.cat(part) for part in zip(*batches(drawn, torch.arange(24), 7, seed=5, epoch=1, augmented='flip')))
    for i, image, target in zip(order.tolist(), images, targets):
        same, seen = normalize(drawn.images[i]), make_targets(drawn.trimaps[i:i + 1])[0]
        assert torch.equal(image, same.flip(-1) if mirrored[i] else same) and torch.equal(target, seen.flip(-1) if mirrored[i] else seen)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in batches(drawn, torch.arange(24), 7, seed=5, augmented='flip'))


def test_augmentations_can_be_chosen_by_name(drawn):
    table = augmentation_table(24, 5, 1)
    table[:, [0, 1, 4, 6]] = .5  # no flip, scale, rotation, contrast
    expected, trimaps = augment(drawn.images, drawn.trimaps, table)
    images, targets = next(batches(drawn, torch.arange(24), 24, seed=5, epoch=1, augmented='shift,brightness'))
    order = epoch_order(24, 5, 1)
    assert torch.equal(images, expected[order]) and torch.equal(targets, make_targets(trimaps)[order])


def test_skipped_batches_cost_nothing_and_change_nothing(drawn, monkeypatch):
    options = dict(seed=2, epoch=3, augmented=True)
    whole = list(batches(drawn, torch.arange(24), 5, **options))
    made = []
    monkeypatch.setattr(data, 'augment', lambda *given: made.append(1) or augment(*given))
    for start in range(6):
        made.clear()
        rest = list(batches(drawn, torch.arange(24), 5, start=start, **options))
        assert len(rest) == len(made) == 5 - start
        for (a, b), (c, d) in zip(whole[start:], rest): assert torch.equal(a, c) and torch.equal(b, d)


def test_shards_are_the_batch_dealt_out(drawn):
    idx, options = torch.arange(9), dict(seed=1, augmented=True)
    whole = list(batches(drawn, idx, 4, **options))  # 4, 4, 1
    parts = [list(batches(drawn, idx, 4, shard=(rank, 2), **options)) for rank in range(2)]
    for step, (images, targets) in enumerate(whole):
        for rank in range(2):
            mine, mine_targets = parts[rank][step]
            if len(images[rank::2]): assert torch.allclose(mine, images[rank::2], atol=1e-5) and torch.equal(mine_targets, targets[rank::2])
            else: assert len(mine) == 1 and (mine_targets == IGNORE).all()  # takes part, counts nothing
    assert (parts[0][2][1] != IGNORE).any() and (parts[1][2][1] == IGNORE).all()


@pytest.mark.parametrize('wrong, options', [('batch_size=0', dict(batch_size=0)), ('needs a seed', dict(augmented=True)), ("augmented='flip' needs a seed", dict(augmented='flip')), ("border='no'", dict(border='no')), ('shard=', dict(shard=(2, 2)))])
def test_batches_refuse_before_the_first_step(drawn, wrong, options):
    with pytest.raises(ValueError, match=wrong): batches(drawn, torch.arange(4), **{'batch_size': 2, **options})


def test_batches_leave_the_pets_alone(drawn):
    before = drawn.images.clone(), drawn.trimaps.clone()
    for images, targets in batches(drawn, torch.arange(24), 24, seed=0): images.zero_(), targets.zero_()
    assert torch.equal(before[0], drawn.images) and torch.equal(before[1], drawn.trimaps)


# ---------------------------------------------------------------- pictures
def test_show_pets_credits_photos(drawn):
    import matplotlib
    matplotlib.use('Agg')
    figure = show_pets(drawn, [0, 5, 7, 9, 11], columns=2)
    assert len(figure.axes) == 12 and sum(bool(ax.images) for ax in figure.axes) == 10
    credit = lambda figure: figure.legends[0].get_title().get_text()
    assert 'Parkhi' not in credit(figure) and 'Parkhi' in credit(show_pets(replace(drawn, source='pets'), [0], titles=['a']))


# ---------------------------------------------------------------- the real dataset
def test_real_dataset(pets_root):
    report = check_pets(pets_root)
    assert (report['pairs'], report['trainval'], report['test'], len(report['all_background'])) == (7349, 3680, 3669, 14)
    pets = load_pets(pets_root, 32)
    assert pets.names == sorted(pets.names, key=lambda name: name + '.png') and pets.breeds.unique().tolist() == list(range(1, 38))
    published, split = published_split(pets), course_split(pets)
    assert {part: len(rows) for part, rows in published.items()} == dict(train=5879, val=1470)
    assert all(pets.names[i].islower() for i in published['val'].tolist())  # dogs only
    breeds = [{pets.names[i].rsplit('_', 1)[0] for i in published[part].tolist()} for part in ('train', 'val')]
    assert breeds[1] - breeds[0] == {'saint_bernard', 'samoyed', 'scottish_terrier', 'shiba_inu', 'staffordshire_bull_terrier', 'wheaten_terrier', 'yorkshire_terrier'}
    assert {part: len(rows) for part, rows in split.items()} == dict(train=3312, val=368, test=3669)
    assert .29 < (pets.trimaps == PET).double().mean() < .31 and .11 < (pets.trimaps == BORDER).double().mean() < .13


@pytest.mark.parametrize('side', [8, 33, 64])
def test_sampling_grid_is_affine_grid(side):
    theta = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(side))
    assert torch.allclose(data.sampling_grid(theta, side), F.affine_grid(theta, [5, 3, side, side], align_corners=False), rtol=0, atol=1e-5)


def test_augment_wants_whole_numbers():
    images, trimaps = torch.rand(1, 3, 16, 16), torch.ones(1, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match='uint8'): augment(images, trimaps, augmentation_table(1, 0, 0))


def test_a_decoded_set_that_may_not_be_copied_is_read_only(tmp_path, monkeypatch):
    "Linux refuses a copy-on-write mapping that is larger than its memory."
    images, trimaps = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3), np.ones((2, 8, 8), np.uint8)
    for name, values in dict(images=images, trimaps=trimaps).items(): np.save(tmp_path / f'{name}.npy', values)
    load, asked = np.load, []
    def refusing(path, mmap_mode):
        asked.append(mmap_mode)
        if mmap_mode == 'c': raise OSError(12, 'Cannot allocate memory')
        return load(path, mmap_mode=mmap_mode)
    monkeypatch.setattr(decode_once.np, 'load', refusing)
    found = decode_once.open_cache(tmp_path, 2, 8)
    assert asked == ['c', 'r', 'r'] and (found[0] == images).all() and not found[0].flags.writeable
    monkeypatch.setattr(decode_once.np, 'load', lambda path, mmap_mode: (_ for _ in ()).throw(OSError(5, 'Input/output error')))
    assert decode_once.open_cache(tmp_path, 2, 8) is None
