"""Folders of people's own pictures: every layout and format is drawn here, with its truth, and read back."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unet_course.data import BACKGROUND, BORDER, PET
from unet_course.datasets.folder import contact_sheet, read_folder, scan_folder, split_folder

W, H = 40, 30
OWN = Path(__file__).resolve().parents[2] / 'shared/own-pictures'


def truth(i: int, w: int = W, h: int = H) -> np.ndarray:
    "bool [h, w]: a disc, elsewhere in each picture."
    rng, (y, x) = np.random.default_rng(i), np.mgrid[:h, :w]
    return (y / h - rng.uniform(.35, .65))**2 + (x / w - rng.uniform(.35, .65))**2 < rng.uniform(.15, .3)**2


def photo(i: int, w: int = W, h: int = H) -> Image.Image:
    "A disc on a noisy ground, mode RGB."
    rng = np.random.default_rng([i, 1])
    grey = 60 + 90 * truth(i, w, h)[..., None] + rng.normal(0, 12, (h, w, 3)) + 20 * np.sin(np.arange(w) / 7)[:, None]
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def grey(values) -> Image.Image: return Image.fromarray(np.asarray(values).astype(np.uint8))


def mask(i: int, high: int = 255) -> Image.Image: return grey(truth(i) * high)


def put(image: Image.Image, path: Path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def write(path: Path, text: str = ''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def check(root: Path, n: int, number=lambda name: int(re.findall(r'\d+', name)[0]), **options):
    "The report, after every mask was compared with the truth of the picture that its name numbers."
    report = scan_folder(root, **options)
    assert len(report.pairs) == n, (report.rule, [p.name for p in report.pairs], report.left_out)
    for pair in report.pairs: assert np.array_equal(report.trimap(pair) == PET, truth(number(pair.name))), pair.name
    assert str(report)
    return report


# Layouts: each writes n pictures; their names hold the number of the truth.
def two_folders(root, n=6):
    for i in range(n): put(photo(i), root / f'images/p{i}.jpg'); put(mask(i), root / f'masks/p{i}.png')

def unusual_folder_names(root, n=6):
    for i in range(n): put(photo(i), root / f'Original/{i}.tif'); put(mask(i), root / f'Ground Truth/{i}.tif')

def suffix(end, same_folder):
    def draw(root, n=12):
        for i in range(n): put(photo(i), root / f'a/p{i}.jpg'); put(mask(i), root / f'{"a" if same_folder else "b"}/p{i}{end}.png')
    draw.__name__ = f'suffix{end}{"_same" if same_folder else ""}'
    return draw

def same_stem_same_folder(root, n=6):
    for i in range(n): put(photo(i), root / f'{i}.{"jpg" if i % 2 else "jpeg"}'); put(mask(i), root / f'{i}.png')

def masks_below_the_pictures(root, n=6):
    for i in range(n): put(photo(i), root / f'{i}.jpg'); put(mask(i), root / f'masks/{i}.png')

def whole_name(root, n=6):
    for i in range(n):
        put(photo(i), root / f'ds/img/p{i}.{"jpg" if i % 2 else "jpeg"}')
        put(mask(i, 1), root / f'ds/masks_machine/p{i}.{"jpg" if i % 2 else "jpeg"}.png')
        put(mask(i, 200).convert('RGB'), root / f'ds/masks_human/p{i}.{"jpg" if i % 2 else "jpeg"}.png')
        write(root / f'ds/ann/p{i}.jpg.json', '{"objects": []}')
    write(root / 'meta.json', '{"classes": [{"title": "disc", "color": "#c8c8c8"}]}')

def pieces(i: int) -> list[np.ndarray]:
    left = truth(i) & (np.arange(W) < W // 2)
    return [left, truth(i) & ~left]

def a_folder_a_picture(root, n=6):
    for i in range(n):
        put(photo(i).convert('RGBA'), root / f'stage1_train/n{i}x/images/n{i}x.png')
        for k, part in enumerate(pieces(i)): put(grey(part * 255), root / f'stage1_train/n{i}x/masks/{"ab"[k] * 9}{i}.png')

def numbered_objects(root, n=6):
    for i in range(n):
        put(photo(i), root / f'benign/benign ({i}).png')
        for k, part in enumerate(pieces(i) if i % 2 else [truth(i)]): put(grey(part * 255), root / f'benign/benign ({i})_mask{"_1" * k}.png')

def numbered_objects_elsewhere(root, n=12):
    for i in range(n):
        put(photo(i), root / f'images/c{i}.png')
        for k, part in enumerate(pieces(i)): put(grey(part * 255), root / f'masks/c{i}_{k}.png')

def nnunet(root, n=6):
    for i in range(n): put(photo(i), root / f'imagesTr/case_{i:03}_0000.png'); put(mask(i, 1), root / f'labelsTr/case_{i:03}.png')
    for i in range(n, n + 3): put(photo(i), root / f'imagesTs/case_{i:03}_0000.png')
    write(root / 'dataset.json', json.dumps(dict(labels=dict(background=0, disc=1))))

def nnunet_two_channels(root, n=6):
    nnunet(root, n)
    for i in range(n): put(photo(i), root / f'imagesTr/case_{i:03}_0001.png')

def split_above(root, n=8):
    for i in range(n):
        part = ('train', 'train', 'valid', 'test')[i % 4]
        put(photo(i), root / f'{part}/images/{i}.jpg'); put(mask(i), root / f'{part}/labels/{i}.png')

def split_below(root, n=8):
    for i in range(n):
        part = ('training', 'training', 'validation', 'testing')[i % 4]
        put(photo(i), root / f'images/{part}/{i}.jpg'); put(mask(i), root / f'annotations/{part}/{i}.png')

def split_in_the_name(root, n=8):
    for i in range(n):
        part = ('train', 'train', 'val', 'test')[i % 4]
        put(photo(i), root / f'{part}/{i}.png'); put(mask(i, 1), root / f'{part}annot/{i}.png')

def voc(root, n=6):
    for i in range(n):
        put(photo(i), root / f'JPEGImages/{i}.jpg')
        index = Image.fromarray(truth(i).astype(np.uint8)); index.putpalette([0, 0, 0, 128, 0, 0])
        put(index, root / f'SegmentationClass/{i}.png')
        put(Image.blend(photo(i), mask(i).convert('RGB'), .4), root / f'SegmentationClassVisualization/{i}.jpg')
        np.save(root / f'{i}.npy', truth(i))
    write(root / 'class_names.txt', '_background_\ndisc\n')

def cities(root, n=8):
    for i in range(n):
        city, name = ('train/aachen', 'train/bonn', 'val/ulm')[i % 3], ('aachen', 'bonn', 'ulm')[i % 3]
        put(photo(i), root / f'leftImg8bit/{city}/{name}_{i:06}_000019_leftImg8bit.png')
        put(mask(i, 1), root / f'gtFine/{city}/{name}_{i:06}_000019_gtFine_labelIds.png')
        put(Image.merge('RGB', [mask(i, 90), mask(i, 20), mask(i, 150)]), root / f'gtFine/{city}/{name}_{i:06}_000019_gtFine_color.png')
        put(mask(i, 7), root / f'gtFine/{city}/{name}_{i:06}_000019_gtFine_instanceIds.png')
        write(root / f'gtFine/{city}/{name}_{i:06}_000019_gtFine_polygons.json', '{}')

def words_behind(root, n=6):
    for i in range(n): put(photo(i), root / f'train/{i}_sat.jpg'); put(mask(i), root / f'train/{i}_mask.png')

def words_before(root, n=12):
    for i in range(n): put(photo(i), root / f'image_{i}.png'); put(mask(i), root / f'mask_{i}.png')

def words_before_in_two_folders(root, n=12):
    for i in range(n): put(photo(i), root / f'imgs/image-{i:03}.png'); put(mask(i), root / f'gt/mask-{i:03}.png')

def other_words_behind(root, n=6):
    for i in range(n):
        put(photo(i), root / f'training/images/{i + 21}_training.tif'); put(grey(truth(i + 21) * 255), root / f'training/1st_manual/{i + 21}_manual1.gif')

def one_name_in_every_folder(root, n=6):
    for i in range(n):
        put(photo(i), root / f's{i}_json/img.png'); put(mask(i), root / f's{i}_json/label.png')
        put(Image.blend(photo(i), mask(i).convert('RGB'), .4), root / f's{i}_json/label_viz.png')
        write(root / f's{i}_json/label_names.txt', '_background_\ndisc\n')

def scenes(root, n=8):
    for i in range(n): put(photo(i), root / f'scene{i // 4}/rgb/{i % 4:04}.png'); put(mask(i), root / f'scene{i // 4}/mask/{i % 4:04}.png')

def patients(root, n=8):
    for i in range(n): put(photo(i), root / f'TCGA{i // 4}/TCGA{i // 4}_{i}.tif'); put(mask(i), root / f'TCGA{i // 4}/TCGA{i // 4}_{i}_mask.tif')

def kinds(root, n=8):
    for i in range(n): put(photo(i), root / f'{"cat" if i % 2 else "dog"}/images/{i}.png'); put(mask(i), root / f'{"cat" if i % 2 else "dog"}/masks/{i}.png')

def capital_endings(root, n=6):
    for i in range(n): put(photo(i), root / f'images/P{i}.JPG'); put(mask(i), root / f'masks/P{i}.PNG')

def isic(root, n=6):
    for i in range(n):
        put(photo(i), root / f'ISIC2018_Task1-2_Training_Input/ISIC_{i:07}.jpg'); put(mask(i), root / f'ISIC2018_Task1_Training_GroundTruth/ISIC_{i:07}_segmentation.png')
    write(root / 'ISIC2018_Task1-2_Training_Input/LICENSE.txt', 'CC-0')

def odd_names(root, n=6):
    for i in range(n): put(photo(i), root / f'images/Größe {i} (a).b.jpg'); put(mask(i), root / f'masks/Größe {i} (a).b.png')

def sidecars(root, n=6):
    two_folders(root, n)
    for i in range(n):
        write(root / f'masks/._p{i}.png', 'macOS'); write(root / f'__MACOSX/masks/p{i}.png', 'macOS'); write(root / f'images/p{i}.xml', '<x/>')
    write(root / 'Thumbs.db'); write(root / 'images/p0.mat')

LAYOUTS = [two_folders, unusual_folder_names, *(suffix(end, same) for end in ('_mask', '_masks', '_segmentation', '_P', '-seg', '.jpg') for same in (False, True)),
           same_stem_same_folder, masks_below_the_pictures, whole_name, a_folder_a_picture, numbered_objects, numbered_objects_elsewhere, nnunet, nnunet_two_channels,
           split_above, split_below, split_in_the_name, voc, cities, words_behind, words_before, words_before_in_two_folders, other_words_behind,
           one_name_in_every_folder, patients, kinds, capital_endings, isic, odd_names, sidecars]
COUNT = dict(a_folder_a_picture=6)


@pytest.mark.parametrize('draw', LAYOUTS, ids=lambda f: f.__name__)
def test_layouts_are_understood(draw, tmp_path):
    draw(tmp_path)
    n = draw.__defaults__[0]
    number = {'cities': lambda s: int(re.search(r'_(\d{6})_', s)[1]), 'patients': lambda s: int(s.split('_')[-1])}.get(draw.__name__)
    report = check(tmp_path, n, *([number] if number else []))
    if draw.__name__.startswith('split'): assert {len(rows) for rows in split_folder(report).values()} == {4, 2}


def test_names_that_repeat_from_folder_to_folder(tmp_path):
    scenes(tmp_path)
    report = check(tmp_path, 8, lambda name: int(name[5]) * 4 + int(name[-1]))
    assert sorted(pair.group for pair in report.pairs) == ['scene0/rgb'] * 4 + ['scene1/rgb'] * 4


# Formats: each returns the picture of a mask; `end` is its file's ending.
def palette_by_turns(i):
    "The index of the disc changes from file to file, its colour does not."
    index = truth(i) * (1 + i % 3)
    image = Image.fromarray(index.astype(np.uint8))
    colours = [0, 0, 0] + [7, 7, 7] * 3
    at = 3 * (1 + i % 3)
    image.putpalette(colours[:at] + [200, 10, 30] + colours[at:])
    return image

def on_transparent(shade):
    def draw(i):
        image = Image.new('RGBA', (W, H), (*shade, 0))
        image.putalpha(grey(truth(i) * 255))
        return image
    return draw

def cut_out(i):
    image = photo(i).convert('RGBA'); image.putalpha(grey(truth(i) * 255)); return image

def instances(dtype, n=4):
    def draw(i):
        "Stripes of the disc, numbered from 1; how many differs from file to file."
        stripe = np.arange(W) * (n + i % 5) // W
        ids = np.zeros((H, W), int)
        for k, s in enumerate(np.unique(stripe[truth(i).any(0)]), 1): ids[truth(i) & (stripe == s)] = k
        return Image.fromarray(ids.astype(dtype))
    return draw

def antialiased(i):
    big = grey(truth(i, 4 * W, 4 * H) * 255)
    return big.resize((W, H), Image.Resampling.BOX)

def from_jpeg(i):
    import io
    file = io.BytesIO(); mask(i).save(file, 'JPEG', quality=70); return Image.open(file).convert('L')

FORMATS = {
    '1 bit': (lambda i: mask(i).convert('1'), 'png'), '0 and 1': (lambda i: mask(i, 1), 'png'), '0 and 255': (mask, 'png'), '0 and 7': (lambda i: mask(i, 7), 'png'),
    'palette by turns': (palette_by_turns, 'png'), 'red on black': (lambda i: Image.merge('RGB', [mask(i, 255), mask(i, 0), mask(i, 0)]), 'png'),
    'one red level': (lambda i: Image.merge('RGB', [mask(i, 1), mask(i, 0), mask(i, 0)]), 'png'), 'grey RGB': (lambda i: mask(i).convert('RGB'), 'png'),
    'RGBA opaque': (lambda i: mask(i).convert('RGBA'), 'png'), 'white on transparent': (on_transparent((255, 255, 255)), 'png'),
    'black on transparent': (on_transparent((0, 0, 0)), 'png'), 'green on transparent': (on_transparent((0, 200, 0)), 'png'), 'cut-out': (cut_out, 'png'),
    'grey and alpha': (lambda i: Image.merge('LA', [mask(i), grey(np.full((H, W), 255))]), 'png'),
    '16 bits, 0 and 65535': (lambda i: Image.fromarray((truth(i) * 65535).astype(np.uint16)), 'png'), '16 bits, instances': (instances(np.uint16), 'png'),
    '16 bits, instances, TIFF': (instances(np.uint16), 'tif'), '32 bits, instances': (instances(np.int32), 'tif'), '8 bits, instances': (instances(np.uint8, 20), 'png'),
    'fractions 0.0 and 1.0': (lambda i: Image.fromarray(truth(i).astype(np.float32)), 'tif'), 'GIF': (mask, 'gif'), 'TIFF, 1 bit': (lambda i: mask(i).convert('1'), 'tif'),
    'TIFF': (mask, 'tiff'), 'BMP': (mask, 'bmp'), 'PGM': (mask, 'pgm'), 'WebP': (mask, 'webp'), }

@pytest.mark.parametrize('name', FORMATS)
def test_formats_are_understood(name, tmp_path):
    draw, end = FORMATS[name]
    for i in range(12): put(photo(i), tmp_path / f'images/{i}.jpg'); put(draw(i), tmp_path / f'masks/{i}.{end}', **(dict(lossless=True) if end == 'webp' else {}))
    check(tmp_path, 12)


@pytest.mark.parametrize('inverse, options', [(True, dict(tiffinfo={262: 0})), (True, dict(tiffinfo={262: 0}, compression='tiff_deflate')), (False, dict(tiffinfo={262: 0}, compression='group4'))], ids=['plain', 'deflate', 'fax'])
@pytest.mark.parametrize('mode', ['1', 'L'])
def test_a_tiff_that_says_0_is_white_is_read_as_it_is_stored_but_a_fax_as_it_is_shown(inverse, options, mode, tmp_path):
    "What libraries for microscopes write of a bool array; Pillow stores the inverse of what it is given under such a mark."
    if mode == 'L' and not inverse: pytest.skip('a fax has one bit')
    for i in range(6):
        put(photo(i), tmp_path / f'images/{i}.jpg')
        put((grey(~truth(i) * 255) if inverse else mask(i)).convert(mode), tmp_path / f'masks/{i}.tif', **options)
    with Image.open(tmp_path / 'masks/0.tif') as opened: assert opened.tag_v2[262] == 0
    check(tmp_path, 6)


@pytest.mark.parametrize('draw, options', [(mask, dict(quality=75)), (lambda i: mask(i).convert('RGB'), dict(quality=60)), (mask, dict(quality=95)),
                                           (from_jpeg, None), (antialiased, None), (lambda i: from_jpeg(i).convert('RGB'), None), (mask, dict(quality=60, end='webp'))],
                         ids=['JPEG', 'JPEG RGB', 'JPEG fine', 'JPEG made PNG', 'antialiased', 'JPEG made RGB PNG', 'WebP with loss'])
def test_noise_and_soft_edges_are_cut_at_128(draw, options, tmp_path):
    end = 'png' if options is None else options.pop('end', 'jpg')
    w, h = 120, 90
    for i in range(8): put(photo(i, w, h), tmp_path / f'images/{i}.jpg'); put(draw(i).resize((w, h), 0) if draw is not antialiased else draw(i).resize((w, h), Image.Resampling.BILINEAR), tmp_path / f'masks/{i}.{end}', **(options or {}))
    report = scan_folder(tmp_path)
    assert report.meaning.soft
    for i, pair in enumerate(report.pairs):
        stored = np.asarray(Image.open(pair.masks[0].path).convert('L'))
        assert np.array_equal(report.trimap(pair) == PET, stored >= 128)
        if draw is mask: assert np.array_equal(stored >= 128, np.asarray(mask(i).resize((w, h), 0)) > 0)


# Questions: what the masks hold, words that the line must have, the options that settle it.
def classes(i, values=(0, 1, 2)): return grey(np.choose(truth(i) * 1 + (truth(i) & (np.arange(W) < W // 2)), values))
def coloured(i): return Image.merge('RGB', [grey(truth(i) * 200), grey(~truth(i) * 200), grey(truth(i) * 0)])
def trimap(i): return grey(np.where(truth(i), 1, np.where(truth(i + 100), 3, 2)))

QUESTIONS = {
    'three classes': (classes, ['--positive 1', '12 masks', '3 values', '%'], dict(positive='all')),
    'no zero': (trimap, ['--positive', 'none of them is 0'], dict(positive=1, ignore=3)),
    'void': (lambda i: classes(i, (0, 255, 1)), ['--positive', '--ignore 255'], dict(positive='1,255')),
    'two colours, none black': (coloured, ['--positive', '#c80000', '#00c800'], dict(positive='#c80000')),
    'mostly positive': (lambda i: grey(~truth(i) * 255), ['--positive 255', '--positive 0', '%'], dict(positive=0)),
    'mixed 1 and 255': (lambda i: mask(i, 1 if i % 2 else 255), ['--positive', '255', '6 of 12'], dict(positive='1,255')),
    'mixed 1 and 255, all': (lambda i: mask(i, 1 if i % 2 else 255), ['all'], dict(positive='all')),
    'grey between black and white': (lambda i: classes(i, (0, 128, 255)), ['--positive 128'], dict(positive='all')),
    'few numbers of 8 bits, objects or classes': (instances(np.uint8), ['--positive', 'all for all but'], dict(positive='all')),
    'scattered classes, 16 bits': (lambda i: Image.fromarray((truth(i) * (1 + i % 3)).astype(np.uint16)), ['--positive'], dict(positive='1-3')),
}

@pytest.mark.parametrize('name', QUESTIONS)
def test_what_does_not_settle_itself_is_asked_in_one_line(name, tmp_path):
    draw, words, options = QUESTIONS[name]
    for i in range(12): put(photo(i), tmp_path / f'images/{i}.jpg'); put(draw(i), tmp_path / f'masks/{i}.png')
    with pytest.raises(ValueError) as error: scan_folder(tmp_path)
    said = str(error.value)
    assert '\n' not in said and all(word in said for word in words), said
    suggested = re.search(r'Give --positive (\S+) ', said)
    if suggested and '--ignore' in said: assert suggested[1] not in said.split('--ignore')[1]
    report = check(tmp_path, 12, **options)
    if 'ignore' in options: assert any((report.trimap(p) == BORDER).any() for p in report.pairs)


LISTS = {
    'labelmap.txt': '# label:color_rgb:parts:actions\nbackground:0,0,0::\ndisc:200,0,0::\nring:0,0,200::\n', 'class_dict.csv': 'name, r, g, b\nvoid, 0, 0, 0\ndisc, 200, 0, 0\nring, 0, 0, 200\n',
    'label_colors.txt': '0 0 0\tvoid\n200 0 0\tdisc\n0 0 200\tring\n', 'meta.json': '{"classes": [{"title": "disc", "color": "#C80000"}, {"title": "ring", "color": "#0000C8"}]}',
    '_classes.csv': 'Pixel Value, Class\n0, background\n1, disc\n2, ring\n', 'dataset.json': '{"labels": {"background": 0, "disc": 1, "ring": 2}}',
    'codes.txt': 'background\ndisc\nring\n', 'class_names.txt': '_background_\ndisc\nring\n', 'labels.txt': '__ignore__\n_background_\ndisc\nring\n',
}

@pytest.mark.parametrize('file', LISTS)
def test_names_of_lists_choose_what_is_found(file, tmp_path):
    by_colour = file in list(LISTS)[:4]
    for i in range(6):
        left = truth(i) & (np.arange(W) < W // 2)
        if by_colour: image = Image.merge('RGB', [grey(truth(i) * ~left * 200), mask(i, 0), grey(left * 200)])
        else: image = classes(i, (0, 1, 2))
        put(photo(i), tmp_path / f'images/{i}.jpg'); put(image, tmp_path / f'masks/{i}.png')
    write(tmp_path / file, LISTS[file])
    with pytest.raises(ValueError, match='(?=.*disc)(?=.*ring)(?=.*--positive)'): scan_folder(tmp_path)
    for positive in ('disc', 'DISC', '#c80000' if by_colour else 1, '200,0,0' if by_colour else '1'):
        report = scan_folder(tmp_path, positive=positive)
        for i, pair in enumerate(report.pairs): assert np.array_equal(report.trimap(pair) == PET, truth(i) & ~(np.arange(W) < W // 2))
    assert 'disc' in str(report)
    check(tmp_path, 6, positive='disc,ring')
    with pytest.raises(ValueError, match='(?=.*--positive cat)(?=.*disc)'): scan_folder(tmp_path, positive='cat')


def test_two_classes_that_a_list_names_settle_themselves(tmp_path):
    "The background need not be black if a list says which it is."
    for i in range(6): put(photo(i), tmp_path / f'images/{i}.jpg'); put(coloured(i), tmp_path / f'masks/{i}.png')
    write(tmp_path / 'labelmap.txt', 'background:0,200,0::\ndisc:200,0,0::\n')
    check(tmp_path, 6)


@pytest.mark.parametrize('masks, words', [
    (lambda i: mask(i, 0), ['empty']), (lambda i: photo(i), ['--masks']), (lambda i: Image.fromarray(truth(i).astype(np.float32) / 2), ['fractions', 'masks/0.tif'])],
    ids=['all empty', 'photos', 'fractions'])
def test_masks_that_hold_nothing_are_refused(masks, words, tmp_path):
    for i in range(4): put(photo(i), tmp_path / f'images/{i}.jpg'); put(masks(i), tmp_path / f'masks/{i}.{"tif" if masks(i).mode == "F" else "png"}')
    with pytest.raises(ValueError) as error: scan_folder(tmp_path)
    assert all(word in str(error.value) for word in words) and '\n' not in str(error.value), error.value


def test_coloured_jpegs_and_ids_in_jpegs_are_refused(tmp_path):
    for i in range(6): put(photo(i), tmp_path / f'images/{i}.png'); put(coloured(i), tmp_path / f'masks/{i}.jpg', quality=80)
    with pytest.raises(ValueError, match='(?=.*6 of 6 masks)(?=.*coloured)(?=.*PNG)'): scan_folder(tmp_path)
    for i in range(6): put(classes(i, (0, 40, 80)), tmp_path / f'masks/{i}.jpg', quality=80)
    with pytest.raises(ValueError, match='(?=.*6 of 6 masks)(?=.*JPEG)(?=.*PNG)'): scan_folder(tmp_path)
    for i in range(6): put(classes(i, (0, 128, 255)), tmp_path / f'masks/{i}.jpg', quality=80)
    with pytest.raises(ValueError, match='JPEG'): scan_folder(tmp_path)


def test_a_mask_of_0_and_1_among_those_of_0_to_255_is_named(tmp_path):
    for i in range(8): put(photo(i), tmp_path / f'images/{i}.png'); put(mask(i), tmp_path / f'masks/{i}.jpg', quality=80)
    (tmp_path / 'masks/5.jpg').unlink(); put(mask(5, 1), tmp_path / 'masks/5.png')
    with pytest.raises(ValueError, match='masks/5.png'): scan_folder(tmp_path)


# Which files are masks, if two sets could be it.
def two_sets(root, n=6):
    for i in range(n):
        put(photo(i), root / f'images/{i}.jpg'); put(mask(i), root / f'masks_a/{i}.png'); put(mask(i + 50), root / f'masks_b/{i}.png')

def test_two_folders_of_masks_are_asked_about(tmp_path):
    two_sets(tmp_path)
    with pytest.raises(ValueError) as error: scan_folder(tmp_path)
    assert all(word in str(error.value) for word in ('--masks', 'masks_a', 'masks_b', '6')) and '\n' not in str(error.value)
    for given in ('masks_a', tmp_path / 'masks_a', str(tmp_path / 'masks_a')): check(tmp_path, 6, masks=given)
    check(tmp_path, 6, lambda name: int(name) + 50, masks='masks_b')
    with pytest.raises(ValueError, match='(?=.*--masks elsewhere)(?=.*masks_a)'): scan_folder(tmp_path, masks='elsewhere')

def test_two_suffixes_are_asked_about(tmp_path):
    for i in range(6): put(photo(i), tmp_path / f'Image_{i}L.jpg'); put(mask(i), tmp_path / f'Image_{i}L_1stHO.png'); put(mask(i + 50), tmp_path / f'Image_{i}L_2ndHO.png')
    with pytest.raises(ValueError, match='(?=.*--mask-suffix _1stHO)(?=.*--mask-suffix _2ndHO)'): scan_folder(tmp_path)
    check(tmp_path, 6, mask_suffix='_1stHO')
    check(tmp_path, 6, mask_suffix='_1stHO.png')
    check(tmp_path, 6, lambda name: int(name[6]) + 50, mask_suffix='_2ndHO')
    with pytest.raises(ValueError, match='(?=.*--mask-suffix _3rdHO)(?=.*_2ndHO)'): scan_folder(tmp_path, mask_suffix='_3rdHO')

def test_masks_outside_the_folder(tmp_path):
    for i in range(6): put(photo(i), tmp_path / f'set/{i}.jpg'); put(mask(i), tmp_path / f'drawn/{i}.png')
    check(tmp_path / 'set', 6, masks=tmp_path / 'drawn')
    with pytest.raises(ValueError, match='none is the mask of another'): scan_folder(tmp_path / 'set')

def test_what_only_a_name_makes_a_decoy_is_left_out_and_listed(tmp_path):
    for i in range(6):
        put(photo(i), tmp_path / f'JPEGImages/{i}.jpg'); put(mask(i), tmp_path / f'SegmentationClass/{i}.png')
        put(classes(i), tmp_path / f'SegmentationObject/{i}.png'); put(mask(i + 9), tmp_path / f'predictions/{i}.png')
    report = check(tmp_path, 6)
    assert sum(map(len, report.left_out.values())) == 12 and 'SegmentationObject/0.png' in str(report)

def test_pictures_without_a_mask_and_masks_without_a_picture(tmp_path):
    two_folders(tmp_path)
    put(photo(7), tmp_path / 'images/p7.jpg'); put(mask(8), tmp_path / 'masks/p8.png')
    report = check(tmp_path, 6)
    assert sorted(sum(report.left_out.values(), [])) == ['images/p7.jpg', 'masks/p8.png'] and all(name in str(report) for name in ('images/p7.jpg', 'masks/p8.png', '--unmasked'))
    report = scan_folder(tmp_path, unmasked='background')
    added, = [pair for pair in report.pairs if pair.name == 'p7']
    assert len(report.pairs) == 7 and (report.trimap(added) == BACKGROUND).all() and report.empty == ['p7']
    with pytest.raises(ValueError, match='--unmasked white'): scan_folder(tmp_path, unmasked='white')

def test_a_part_that_nobody_annotated_is_not_background(tmp_path):
    for i in range(6): put(photo(i), tmp_path / f'train/{i}.jpg'); put(mask(i), tmp_path / f'train_masks/{i}_mask.gif'); put(photo(i), tmp_path / f'test/{90 + i}.jpg')
    assert len(check(tmp_path, 6, unmasked='background').left_out) == 1

@pytest.mark.parametrize('files, words', [
    ({'a.json': json.dumps(dict(images=[], annotations=[], categories=[]))}, ['COCO', 'a.json']), ({f'images/{i}.json': json.dumps(dict(shapes=[])) for i in range(4)}, ['labelme']),
    ({'via.json': json.dumps(dict(_via_settings={}))}, ['VIA']), ({f'labels/{i}.txt': '0 .1 .2 .3 .4' for i in range(4)}, ['.txt', 'export']), ({}, ['--masks', '--mask-suffix'])])
def test_annotations_that_are_no_masks_are_refused_with_the_export_to_choose(files, words, tmp_path):
    for i in range(4): put(photo(i), tmp_path / f'images/{i}.jpg')
    for name, text in files.items(): write(tmp_path / name, text)
    with pytest.raises(ValueError) as error: scan_folder(tmp_path)
    assert all(word in str(error.value) for word in words) and '\n' not in str(error.value), error.value

def test_names_are_compared_letter_by_letter(tmp_path):
    for i in range(4): put(photo(i), tmp_path / f'images/{i}.jpg'); put(mask(i), tmp_path / f'masks/{i}.png')
    put(photo(5), tmp_path / 'images/Cell5.jpg'); put(mask(5), tmp_path / 'masks/cell5.png')
    put(photo(1), tmp_path / 'images/11.jpg'); put(mask(2), tmp_path / 'masks/1 1.png')
    assert [pair.name for pair in check(tmp_path, 4).pairs] == list('0123')

def test_two_files_of_one_name_are_refused_by_name(tmp_path):
    two_folders(tmp_path)
    put(mask(3), tmp_path / 'masks/p3.gif')
    with pytest.raises(ValueError, match='(?=.*masks/p3.gif)(?=.*masks/p3.png)'): scan_folder(tmp_path)
    (tmp_path / 'masks/p3.gif').unlink(); put(photo(3), tmp_path / 'images/p3.png')
    with pytest.raises(ValueError, match='(?=.*images/p3.jpg)(?=.*images/p3.png)'): scan_folder(tmp_path)

def test_bad_files_are_named(tmp_path):
    two_folders(tmp_path)
    good = (tmp_path / 'masks/p2.png').read_bytes()
    for name, content in (('masks/p2.png', good[:60]), ('masks/p2.png', b'no picture'), ('masks/p2.png', b''), ('images/p1.jpg', b'no picture')):
        before = (tmp_path / name).read_bytes(); (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name): scan_folder(tmp_path)
        (tmp_path / name).write_bytes(before)
    whole = (tmp_path / 'images/p1.jpg').read_bytes(); (tmp_path / 'images/p1.jpg').write_bytes(whole[:400])
    with pytest.raises(ValueError, match='images/p1.jpg'): read_folder(tmp_path, 32)

@pytest.mark.parametrize('make, words', [(lambda root: None, ['no such folder']), (lambda root: write(root), ['a file']), (lambda root: root.mkdir(), ['empty']), (lambda root: write(root / 'a.dcm'), ['.dcm'])])
def test_folders_without_pictures(make, words, tmp_path):
    make(tmp_path / 'set')
    with pytest.raises(ValueError) as error: scan_folder(tmp_path / 'set')
    assert 'set' in str(error.value) and all(word in str(error.value) for word in words)


# Sizes and turns.
def test_a_mask_of_another_size_is_resized_and_said_one_of_another_shape_refused(tmp_path):
    for i in range(6): put(photo(i, 2 * W, 2 * H) if i == 4 else photo(i), tmp_path / f'images/{i}.png'); put(mask(i), tmp_path / f'masks/{i}.png')
    assert check(tmp_path, 6).resized == ['4'] and 'resized' in str(scan_folder(tmp_path))
    put(photo(4, W, W), tmp_path / 'images/4.png')
    with pytest.raises(ValueError, match=f'(?=.*images/4.png)(?=.*{W}x{W})(?=.*{W}x{H})'): scan_folder(tmp_path)

TURNED = {2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE', 6: 'ROTATE_90', 7: 'TRANSVERSE', 8: 'ROTATE_270'}  # what the camera did

@pytest.mark.parametrize('kind', ['jpg', 'png', 'tif'])
def test_exif_turns_the_photo_never_the_mask(kind, tmp_path):
    for i in range(1, 9):
        w, h = (W, W) if i in (2, 7) else (W, H)
        image, exif = photo(i, w, h), Image.Exif()
        if i > 1: image = image.transpose(getattr(Image.Transpose, TURNED[i]))
        exif[0x0112] = i
        put(image, tmp_path / f'images/{i}.{kind}', exif=exif); put(grey(truth(i, w, h) * 255), tmp_path / f'masks/{i}.png')
    pets, report = read_folder(tmp_path, 64)
    for image, t in zip(pets.images.float().mean(1), pets.trimaps): assert image[t == PET].mean() > image[t == BACKGROUND].mean() + 50
    if kind != 'tif': assert report.turned == list('2345678') and report.unsure == list('2347') and 'upright' in str(report)

def test_masks_drawn_on_the_pictures_as_they_are_stored(tmp_path):
    for i in range(4):
        exif = Image.Exif(); exif[0x0112] = 6 if i < 3 else 3
        put(photo(i), tmp_path / f'images/{i}.jpg', exif=exif); put(mask(i), tmp_path / f'masks/{i}.png')
    pets, report = read_folder(tmp_path, 64)
    assert not report.turn and 'as they are stored' in str(report)
    for image, t in zip(pets.images.float().mean(1), pets.trimaps): assert image[t == PET].mean() > image[t == BACKGROUND].mean() + 50


# Pictures of any mode and depth.
def deep(i, top, dtype): return Image.fromarray((np.asarray(photo(i).convert('L')).astype(float) / 255 * top).astype(dtype))
MODES = {'1': (lambda i: grey(truth(i) * 255).convert('1'), 'png'), 'L': (lambda i: photo(i).convert('L'), 'png'), 'LA': (lambda i: photo(i).convert('LA'), 'png'), 'P': (lambda i: photo(i).quantize(200), 'png'),
         'RGBA': (lambda i: photo(i).convert('RGBA'), 'png'), 'CMYK': (lambda i: photo(i).convert('CMYK'), 'jpg'), 'GIF': (photo, 'gif'), 'BMP': (photo, 'bmp'), 'WebP': (photo, 'webp'),
         '16 bits, 4,000 used': (lambda i: deep(i, 4000, np.uint16), 'png'), '16 bits, all used': (lambda i: deep(i, 65535, np.uint16), 'tif'), '32 bits': (lambda i: deep(i, 70000, np.int32), 'tif'), 'fractions': (lambda i: deep(i, .02, np.float32), 'tif')}

@pytest.mark.parametrize('mode', MODES)
def test_pictures_of_any_mode(mode, tmp_path):
    draw, end = MODES[mode]
    for i in range(4): put(draw(i), tmp_path / f'images/{i}.{end}'); put(mask(i), tmp_path / f'masks/{i}.png')
    pets, report = read_folder(tmp_path, 64)
    for image, t in zip(pets.images.float().mean(1), pets.trimaps): assert image[t == PET].mean() > image[t == BACKGROUND].mean() + 50
    assert ('range ' in str(report)) == ('bits' in mode or mode == 'fractions')

def test_deep_pictures_share_one_range(tmp_path):
    for i in range(4): put(deep(i, 1000 * (i + 1), np.uint16), tmp_path / f'images/{i}.png'); put(mask(i), tmp_path / f'masks/{i}.png')
    pets, report = read_folder(tmp_path, 64)
    low, high = report.numbers
    means = pets.images.double().mean((1, 2, 3)) / 255 * (high - low) + low
    assert torch.allclose(means / means[3], torch.tensor([.25, .5, .75, 1]).double(), atol=.1) and report.numbers[1] > 1500 and f'{report.numbers[1]:g}' in str(report)


# Groups and split.
@pytest.mark.parametrize('names, groups', [
    (['a_01', 'a_02', 'b_01', 'b_02'], 'aabb'), (['film1_frame1', 'film1_frame20', 'film2_frame1'], ['film1', 'film1', 'film2']), (['IMG_0231_jpg.rf.' + c * 32 for c in 'ab'] + ['IMG_0232_jpg.rf.' + 'c' * 32], ['IMG_0231'] * 2 + ['IMG_0232']),
    (['x (1)', 'x (2)', 'y (1)'], 'xxy'), (['IMG_0001', 'IMG_0002', 'DSC-7', 'DSC-8'], None), (['001', '002', '003'], None), (['IMG_20260410_1015', 'IMG_20260410_1016', 'IMG_20260411_1015'], None), (['12345_01', '12345_02', '99999_01'], ['12345'] * 2 + ['99999']),
    (['0006R0_f00930', '0006R0_f00960', '0016E5_00390'], ['0006R0', '0006R0', '0016E5']), (['p1-t3', 'p1-t4', 'p2-t3'], ['p1', 'p1', 'p2']), (['cell_1', 'cell_2', 'cell_3'], None), (['cju0qkwl35piu', 'cju0qoxqj9q6s'], None)])
def test_names_that_share_a_stem_with_a_counter_are_groups(names, groups, tmp_path):
    for name in names: put(photo(1), tmp_path / f'images/{name}.png'); put(mask(1), tmp_path / f'masks/{name}.png')
    report = scan_folder(tmp_path)
    found = {pair.name: pair.group for pair in report.pairs}
    assert [found[name] for name in names] == (list(groups) if groups else names)
    assert bool(report.grouping) == bool(groups) and '--groups' in str(report)
    if groups: assert f'{len(names)} pictures look like {len(set(groups))} groups' in str(report)
    assert all(pair.group == pair.name for pair in scan_folder(tmp_path, groups='none').pairs)

def many(root, names):
    for name in names: put(photo(1).resize((16, 12)), root / f'images/{name}.png'); put(mask(1).resize((16, 12), 0), root / f'masks/{name}.png')

@pytest.mark.parametrize('sizes', [[1] * 30, [5] * 12, [40, 3, 3, 3, 3], [20, 20], [3, 3, 30], [7]*3])
def test_groups_stay_on_one_side_and_the_largest_trains(sizes, tmp_path):
    many(tmp_path, [f'g{g}_{k:02}' for g, n in enumerate(sizes) for k in range(n)])
    report = scan_folder(tmp_path, groups='^(g[0-9]+)_')
    split = split_folder(report)
    sides = {part: {report.pairs[i].group for i in rows.tolist()} for part, rows in split.items()}
    assert not (sides['train'] & sides['val'] or sides['train'] & sides['test'] or sides['val'] & sides['test'])
    assert sorted(sum((rows.tolist() for rows in split.values()), [])) == list(range(sum(sizes)))
    assert len(split['train']) and len(split['val']) and bool(len(split['test'])) == (len(sizes) > 2)
    assert f'g{sizes.index(max(sizes))}' in sides['train'] or sizes.count(max(sizes)) > 1
    assert len(split['train']) >= len(split['val'])
    if len(sizes) >= 12: assert len(split['test']) == len(split['val']) == .2 * sum(sizes) // max(sizes) * max(sizes)
    again = split_folder(scan_folder(tmp_path, groups='^(g[0-9]+)_'))
    assert all((split[part] == again[part]).all() for part in split)
    if len(sizes) < 10: assert 'few' in str(report)

def test_groups_that_cannot_be(tmp_path):
    many(tmp_path, ['a_1', 'a_2', 'b_1'])
    for pattern, word in (('(', 'regular expression'), ('^b', 'a_1'), ('_', 'one group')):
        with pytest.raises(ValueError, match=f'(?=.*--groups)(?=.*{word})'): scan_folder(tmp_path, groups=pattern)

def test_one_picture_is_too_few(tmp_path):
    many(tmp_path, ['only'])
    with pytest.raises(ValueError, match='two pictures'): split_folder(scan_folder(tmp_path))

def test_one_picture_can_be_looked_at(tmp_path):
    many(tmp_path, ['only'])
    assert 'split     none' in str(scan_folder(tmp_path)) and len(contact_sheet(scan_folder(tmp_path)).axes) == 1

def test_train_and_valid_folders_without_a_test_folder(tmp_path):
    for i in range(8): put(photo(i), tmp_path / f'{"train" if i < 6 else "valid"}/{i}.jpg'); put(mask(i), tmp_path / f'{"train" if i < 6 else "valid"}/{i}_mask.png')
    report = check(tmp_path, 8)
    assert {part: rows.tolist() for part, rows in split_folder(report).items()} == dict(train=list(range(6)), val=[6, 7], test=[])
    for i in (6, 7): (tmp_path / f'valid/{i}.jpg').rename(tmp_path / f'valid/x_{i}.jpg'); (tmp_path / f'valid/{i}_mask.png').rename(tmp_path / f'valid/x_{i}_mask.png')
    put(photo(1), tmp_path / 'train/x_1.jpg'); put(mask(1), tmp_path / 'train/x_1_mask.png')
    assert 'both sides' in str(scan_folder(tmp_path))

def test_train_and_test_folders_draw_the_validation_from_train(tmp_path):
    for i in range(12): put(photo(i), tmp_path / f'{"train" if i < 10 else "test"}/{i}.jpg'); put(mask(i), tmp_path / f'{"train" if i < 10 else "test"}/{i}_mask.png')
    report = check(tmp_path, 12)
    split = split_folder(report)
    assert {report.pairs[i].part for i in split['test'].tolist()} == {'test'} and len(split['test']) == 2 and len(split['val']) == 2 and len(split['train']) == 8


# What comes out.
def test_pets_of_a_folder(tmp_path):
    patients(tmp_path / 'My cells (2)', 8)
    pets, report = read_folder(tmp_path / 'My cells (2)', 48)
    assert pets.source == 'folder_My_cells_2_' and len(pets) == 8 and pets.size == 48 and pets.images.is_contiguous(memory_format=torch.channels_last)
    assert set(pets.trimaps.unique().tolist()) == {PET, BACKGROUND} and pets.breeds.tolist() == [0] * 4 + [1] * 4
    assert torch.equal(pets.test.nonzero()[:, 0], split_folder(report)['test'])
    for t, pair in zip(pets.trimaps, report.pairs):
        want = np.asarray(grey(truth(int(pair.name.split('_')[-1])) * 255).resize((48, 48), Image.Resampling.NEAREST)) > 0
        assert np.array_equal(t.numpy() == PET, want)

def test_the_fingerprint_changes_with_what_is_trained(tmp_path):
    for i in range(6): put(photo(i), tmp_path / f'images/{"ab"[i % 2]}_{i}.jpg'); put(classes(i), tmp_path / f'masks/{"ab"[i % 2]}_{i}.png')
    prints = [scan_folder(tmp_path, **options).fingerprint() for options in (dict(positive=1), dict(positive=1), dict(positive=2), dict(positive=1, ignore=2), dict(positive=1, groups='none'))]
    assert prints[0] == prints[1] and len(set(prints)) == 4

def test_the_contact_sheet_shows_the_extremes(tmp_path):
    for i in range(20): put(photo(i), tmp_path / f'images/p{i}.jpg'); put(grey(np.zeros((H, W)) if i == 3 else truth(i) * 255), tmp_path / f'masks/p{i}.png')
    report = scan_folder(tmp_path)
    fig = contact_sheet(report)
    titles = ' '.join(ax.get_title() for ax in fig.axes)
    by_share = sorted(report.pairs, key=lambda pair: pair.share)
    assert len(fig.axes) == 8 and all(f'{name}\n' in titles for name in (by_share[0].name, by_share[1].name, by_share[-1].name)) and 'empty' in titles
    outlined = [ax for ax in fig.axes if ax.collections]
    assert len(outlined) == 7
    fig.savefig(tmp_path / 'look.png')
    few = scan_folder(tmp_path, groups='none')
    few.pairs = few.pairs[:3]
    assert len(contact_sheet(few).axes) == 3

def test_nothing_is_written(tmp_path):
    two_folders(tmp_path)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob('*'))
    contact_sheet(scan_folder(tmp_path)); read_folder(tmp_path, 32)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob('*')) == before


# Seven cases with truth, beside the repository: what settles them if they ask.
CASES = dict(carvana=None, cvat_mask11=dict(positive='cat'), dsb2018=None, kvasir=None, labelme_exif=None, pets_trimap=dict(positive=1, ignore=3), roboflow=None)

@pytest.mark.parametrize('case', CASES)
def test_seven_cases_with_truth(case):
    if not (OWN / case).is_dir(): pytest.skip(f'{OWN / case} is not there')
    root, options = OWN / case, CASES[case]
    if options is not None:
        with pytest.raises(ValueError, match='--positive'): scan_folder(root / 'data')
    report = scan_folder(root / 'data', **(options or {}))
    read = lambda folder, name: np.asarray(Image.open(root / folder / f'{name}.png')) > 0
    assert len(report.pairs) == len(list((root / 'truth').glob('*.png')))
    for pair in report.pairs:
        assert np.array_equal(report.trimap(pair) == PET, read('truth', pair.name))
        if (root / 'truth-ignore').is_dir(): assert np.array_equal(report.trimap(pair) == BORDER, read('truth-ignore', pair.name))
    pets, _ = read_folder(root / 'data', 60, **(options or {}))
    for image, t in zip(pets.images.float(), pets.trimaps):  # the discs are red: photo and mask lie on one another
        red = image[0] - image[2]
        if (t == PET).any() and case not in ('cvat_mask11', 'dsb2018'): assert red[t == PET].mean() > red[t == BACKGROUND].mean() + 40
    if case == 'cvat_mask11':
        assert 'pic05' in str(report) and report.empty == ['pic03']
        assert scan_folder(root / 'data', positive='#fa3253').fingerprint() == scan_folder(root / 'data', positive='250,50,83').fingerprint() == report.fingerprint()
        assert len(scan_folder(root / 'data', positive='cat', unmasked='background').pairs) == 6
    if case == 'carvana': assert '8 pictures look like 4 groups' in str(report)
    if case == 'roboflow': assert {part: len(rows) for part, rows in split_folder(report).items()} == dict(train=5, val=2, test=1)
    if case == 'labelme_exif': assert len(report.turned) == 4 and len(report.unsure) == 2


def test_a_folder_name_with_a_word_more(tmp_path):
    for i in range(8): put(photo(i), tmp_path / f'{"cat" if i % 2 else "dog"}/{i // 2}.png'); put(mask(i), tmp_path / f'{"cat" if i % 2 else "dog"}_masks/{i // 2}.png')
    check(tmp_path, 8, lambda name: int(name[-1]) * 2 + name.startswith('cat'))

def test_kinds_of_files_in_every_folder_are_asked_about(tmp_path):
    for i in range(4):
        put(photo(i), tmp_path / f'n{i}/images/n{i}.png')
        put(mask(i), tmp_path / f'n{i}/masks/nucleus.png'); put(mask(i + 50), tmp_path / f'n{i}/masks/cytoplasm.png')
    with pytest.raises(ValueError, match='(?=.*--mask-suffix nucleus)(?=.*--mask-suffix cytoplasm)'): scan_folder(tmp_path)
    check(tmp_path, 4, mask_suffix='nucleus')

def test_two_folders_of_pictures_are_refused_by_name(tmp_path):
    for i in range(4): put(photo(i), tmp_path / f'a/{i}.png'); put(photo(i + 9), tmp_path / f'b/{i}.png'); put(mask(i), tmp_path / f'masks/{i}.png')
    with pytest.raises(ValueError, match='(?=.*a/0.png)(?=.*b/0.png)'): scan_folder(tmp_path)
    (tmp_path / 'b').rename(tmp_path / 'depth')
    check(tmp_path, 4)

def test_the_folder_of_masks_that_is_given_is_not_paired_with_other_masks(tmp_path):
    two_sets(tmp_path)
    (tmp_path / 'images').rename(tmp_path / 'zzz')
    assert check(tmp_path, 6, masks='masks_a').pairs[0].picture.label == 'zzz/0.jpg'

def test_classes_that_only_other_files_tell_are_asked_about(tmp_path):
    for i in range(4):
        put(photo(i), tmp_path / f'Images/p{i}.jpg')
        for k, part in enumerate(pieces(i)): put(grey(part * 255), tmp_path / f'Masks/p{i}_mask_{k}.png')
        write(tmp_path / f'Annotations/p{i}.xml', '<annotation><object><name>left</name></object><object>\n <name>right</name></object></annotation>')
    with pytest.raises(ValueError, match='(?=.*left, right)(?=.*--positive all)'): scan_folder(tmp_path)
    check(tmp_path, 4, positive='all')

def test_the_lists_of_voc_are_the_split(tmp_path):
    voc(tmp_path)
    for part, names in dict(train='0 1 2', val='3 4', test='5').items(): write(tmp_path / f'ImageSets/Segmentation/{part}.txt', '\n'.join(names.split()) + '\n')
    assert {part: rows.tolist() for part, rows in split_folder(check(tmp_path, 6)).items()} == dict(train=[0, 1, 2], val=[3, 4], test=[5])

def test_what_a_question_suggests_settles_it(tmp_path):
    "Each option in the line is tried."
    for i in range(6):
        put(photo(i), tmp_path / f'set/images/{i}.jpg'); put(classes(i), tmp_path / f'set/images/{i}_ann.png'); put(mask(i + 50), tmp_path / f'set/truth/{i}.png')
    with pytest.raises(ValueError) as error: scan_folder(tmp_path / 'set')
    options = re.findall(r'--(masks|mask-suffix) "?([^" ]+)"?', str(error.value))
    assert options == [('mask-suffix', '_ann'), ('masks', 'truth')] or options == [('masks', 'truth'), ('mask-suffix', '_ann')]
    check(tmp_path / 'set', 6, lambda name: int(name) + 50, masks='truth')
    with pytest.raises(ValueError, match='--positive 1'): scan_folder(tmp_path / 'set', mask_suffix='_ann')
    assert len(scan_folder(tmp_path / 'set', mask_suffix='_ann', positive=2).pairs) == 6

def test_a_palette_of_one_colour_is_read_by_index(tmp_path):
    for i in range(4):
        image = Image.fromarray(truth(i).astype(np.uint8)); image.putpalette([0, 0, 0] * 256)
        put(photo(i), tmp_path / f'images/{i}.jpg'); put(image, tmp_path / f'masks/{i}.png')
    check(tmp_path, 4)


# The command.
def command(*words, cwd=None):
    return subprocess.run([sys.executable, '-m', 'unet_course', *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=500,
                          env=dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[1]), OMP_NUM_THREADS='1', UNET_COURSE_DEVICE='cpu'))

def test_look_prints_and_draws(tmp_path):
    two_folders(tmp_path / 'set')
    done = command('look', 'set', cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert '6 by the rule' in done.stdout and 'look.png' in done.stdout and Image.open(tmp_path / 'look.png').size[0] > 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ['look.png', 'set']

@pytest.mark.parametrize('words, said', [(['look', 'nothing'], 'nothing'), (['look', 'set', '--positive', 'cat'], '--positive cat'), (['look', 'set', '--out', 'look.jpg'], 'look.jpg'),
                                         (['look', 'set', '--unmasked', 'x'], '--unmasked x'), (['run', '--data', 'folder'], '--root'), (['run', '--positive', '1'], '--positive'), (['run', '--no-flip'], '--no-flip'),
                                         (['run', '--data', 'folder', '--root', 'set', '--border', 'pet'], '--border'), (['run', '--data', 'folder', '--root', 'set', '--init', 'x.pth'], 'x.pth'),
                                         (['run', '--data', 'folder', '--root', 'set', '--init', 'mp-tr-dice', '--variants', 'exp4'], 'mp-tr-dice'), (['run', '--data', 'folder', '--root', 'set', '--init', 'mp-tr-dice', '--width', '8'], '--width 8')])
def test_a_bad_command_says_one_line_and_writes_nothing(words, said, tmp_path):
    two_folders(tmp_path / 'set')
    before = sorted(tmp_path.rglob('*'))
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count('\n') == 1, done.stderr
    assert sorted(tmp_path.rglob('*')) == before

def test_a_run_on_a_folder_can_be_used_by_predict_and_goes_on_from_other_weights(tmp_path):
    for i in range(10): put(deep(i, 4000, np.uint16).resize((64, 48)), tmp_path / f'set/images/{"ab"[i % 2]}x{i}.png'); put(mask(i).resize((64, 48), 0), tmp_path / f'set/masks/{"ab"[i % 2]}x{i}.png')
    done = command('run', '--data', 'folder', '--root', 'set', '--width', 4, '--size', 32, '--steps', 30, '--variants', 'mp-tr-bce', '--no-flip', '--no-rotation', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    weights, = tmp_path.glob('runs/*/mp-tr-bce/seed0/best.pth')
    config = json.loads((weights.parent / 'config.json').read_text())['config']
    assert config['recipe']['augmented'] == 'scale,shift,brightness,contrast' and config['recipe']['epochs'] * -(-config['train_images'] // config['recipe']['batch_size']) >= 30
    assert config['data'] == 'folder_set' and config['value_range'][1] > 1000 and config['loss']['pos_weight'] > 1 and scan_folder(tmp_path / 'set').fingerprint() in config['pictures']
    assert (weights.parents[2] / 'look.png').is_file()
    page = (weights.parent / 'report.html').read_text()
    scores = [float(x) for x in re.findall(r'IoU ([0-9.]+)</figcaption>', page)]
    assert scores == sorted(scores) and len(scores) == 2 and 'best.pth' in page and 'unet-course predict' in page and str(tmp_path) not in page.replace('src=', '')
    assert command('predict', 'set/images', '--weights', weights, '--out', 'found', cwd=tmp_path).returncode == 0 and len(list((tmp_path / 'found').iterdir())) == 10
    again = command('run', '--data', 'folder', '--root', 'set', '--init', weights, '--variants', 'mp-tr-dice', '--steps', 4, cwd=tmp_path)
    assert again.returncode == 0 and 'width 4, 32x32' in again.stdout, again.stderr
    other = command('run', '--data', 'folder', '--root', 'set', '--width', 4, '--size', 32, '--steps', 30, '--variants', 'mp-tr-bce', '--no-flip', '--no-rotation', '--positive', 0, cwd=tmp_path)
    assert other.returncode == 2 and 'another' in other.stderr

def test_runs_start_from_the_weights_that_are_given(tmp_path):
    from unet_course.prediction import load_pretrained
    from unet_course.runs.own_pictures import own_runs
    from unet_course.runs.runner import make_trainer
    two_folders(tmp_path, 10)
    configs, pets, split, _ = own_runs(tmp_path, {}, init='mp-ups-bce', variants='mp-ups-dice,mp-ups-bce', seeds=[0, 1])
    shipped = load_pretrained('mp', 'ups', 'bce')
    theirs = shipped.model.state_dict()
    for config in configs:
        ours = make_trainer(config, pets, split, torch.device('cpu')).model.state_dict()
        assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    assert len(configs) == 4 and {config.setting.init for config in configs} == {'mp-ups-bce'} and pets.size == configs[0].setting.size == shipped.size

def test_ignored_pixels_do_not_count(tmp_path):
    from unet_course.runs.own_pictures import own_runs
    for i in range(10): put(photo(i), tmp_path / f'images/{i}.jpg'); put(trimap(i), tmp_path / f'masks/{i}.png')
    configs, pets, split, _ = own_runs(tmp_path, dict(positive=1, ignore=3))
    assert configs[0].setting.border == 'ignore' and (pets.trimaps == BORDER).any()
    assert own_runs(tmp_path, dict(positive=1))[0][0].setting.border == 'background'

def test_parts_of_the_augmentation_can_be_left_out():
    from unet_course.data import batches
    from unet_course.datasets.synthetic import synthetic_pets
    pets = synthetic_pets(8, 32)
    look = lambda augmented: next(batches(pets, range(8), 8, seed=0, augmented=augmented))[0]
    plain, everything = look(False), look(True)
    assert torch.equal(everything, look('flip,scale,shift,rotation,brightness,contrast')) and not torch.equal(everything, look('scale'))
    flipped = look('flip')
    same = [torch.allclose(a, b, atol=.01) for a, b in zip(flipped, plain)]
    mirrored = [torch.allclose(a, b.flip(-1), atol=.01) for a, b in zip(flipped, plain)]
    assert all(x != y for x, y in zip(same, mirrored)) and any(same) and any(mirrored)
    with pytest.raises(ValueError, match='flop'):
        from unet_course.training import Recipe
        Recipe(augmented='flop')


def dark(i):
    "A picture of few, dark, noisy values with bright discs, as fluorescence microscopes make them."
    rng = np.random.default_rng([i, 2])
    return grey(rng.integers(2, 14, (H, W)) + truth(i) * rng.integers(20, 220, (H, W)))

@pytest.mark.parametrize('places', [('a', 'b'), ('images', 'masks'), ('b', 'a')])
@pytest.mark.parametrize('end', ['png', 'jpg', 'tif'])
def test_dark_pictures_are_no_masks(places, end, tmp_path):
    for i in range(8): put(dark(i), tmp_path / f'{places[0]}/{i}.{end}'); put(mask(i), tmp_path / f'{places[1]}/{i}.png')
    check(tmp_path, 8)

def test_drawn_pictures_have_more_values_than_their_masks(tmp_path):
    for i in range(6):
        picture = np.zeros((H, W, 3), np.uint8) + np.array([30, 60, 200], np.uint8)
        picture[truth(i)], picture[:5], picture[-3:], picture[:, :2] = (250, 240, 10), (0, 120, 0), (90, 90, 90), (7, 7, 7)
        put(Image.fromarray(picture), tmp_path / f'a/{i}.png'); put(mask(i), tmp_path / f'b/{i}.png')
    check(tmp_path, 6)

def test_the_unsure_edge_of_voc_is_named(tmp_path):
    for i in range(4):
        index = Image.fromarray(np.where(truth(i), 1, np.where(truth(i + 50), 255, 0)).astype(np.uint8))
        index.putpalette(sum([[0, 0, 0], [128, 0, 0]], []) + [0] * 759 + [224, 224, 192])
        put(photo(i), tmp_path / f'images/{i}.jpg'); put(index, tmp_path / f'masks/{i}.png')
    with pytest.raises(ValueError, match='--ignore "#e0e0c0"'): scan_folder(tmp_path)
    check(tmp_path, 4, positive='#800000', ignore='#e0e0c0')


# What other people's folders showed (second round).
def set_of(root, draw, n=6, photos=photo, end='png', options={}, at=('images', 'masks')):
    for i in range(n): put(photos(i), root / f'{at[0]}/{i}.jpg'); put(draw(i), root / f'{at[1]}/{i}.{end}', **options)

def palette(values, colours):
    image = Image.fromarray(np.asarray(values).astype(np.uint8)); image.putpalette(sum(map(list, colours), [])); return image

@pytest.mark.parametrize('w, h', [(160, 120), (16, 16), (1600, 20)])
@pytest.mark.parametrize('end, options', [('png', {}), ('tif', {}), ('tif', dict(compression='tiff_lzw')), ('bmp', {})])
def test_a_16_in_the_size_is_not_16_bits(w, h, end, options, tmp_path):
    for i in range(3): put(photo(i, w, h), tmp_path / f'images/{i}.jpg'); put(grey(truth(i, w, h) * 255).convert('RGB'), tmp_path / f'masks/{i}.{end}', **options)
    for pair in scan_folder(tmp_path).pairs: assert np.array_equal(scan_folder(tmp_path).trimap(pair) == PET, truth(int(pair.name), w, h))

def test_a_mask_of_one_index_is_read_by_its_colour(tmp_path):
    "Whole and empty masks: their palette has more colours than they use."
    set_of(tmp_path, lambda i: palette(truth(i), [(0, 0, 0), (128, 0, 0)]))
    put(photo(9), tmp_path / 'images/9.jpg'); put(palette(np.ones((H, W)), [(0, 0, 0), (128, 0, 0)]), tmp_path / 'masks/9.png')
    report = scan_folder(tmp_path)
    assert report.pairs[-1].share == 1 and '#800000' in str(report)
    set_of(tmp_path, lambda i: palette(truth(i), [(255, 255, 255), (0, 0, 0)]))
    put(palette(np.zeros((H, W)), [(255, 255, 255), (0, 0, 0)]), tmp_path / 'masks/9.png')
    report = scan_folder(tmp_path, positive=0)
    assert report.empty == ['9'] and all(np.array_equal(report.trimap(p) == PET, truth(int(p.name))) for p in report.pairs[:-1])

def test_an_index_without_a_colour_is_not_black(tmp_path):
    draw = lambda i: palette(np.where(truth(i), 1, np.where(truth(i + 50), 255, 0)), [(0, 0, 0), (128, 0, 0)] + [(0, 9, k) for k in range(20)])
    set_of(tmp_path, draw)
    with pytest.raises(ValueError, match='(?=.*3 values)(?=.*255)'): scan_folder(tmp_path)
    report = check(tmp_path, 6, positive='#800000', ignore=255)
    assert any((report.trimap(pair) == BORDER).any() for pair in report.pairs)

@pytest.mark.parametrize('photos, masks', [('avif', 'png'), ('jpg', 'avif')])
def test_avif(photos, masks, tmp_path):
    from PIL import features
    if not features.check('avif'): pytest.skip('this Pillow reads no AVIF')
    w, h = 160, 120
    for i in range(4): put(photo(i, w, h), tmp_path / f'images/{i}.{photos}'); put(grey(truth(i, w, h) * 255), tmp_path / f'masks/{i}.{masks}')
    report = scan_folder(tmp_path)
    assert sum(((report.trimap(pair) == PET) != truth(int(pair.name), w, h)).sum() for pair in report.pairs) < .002 * 4 * w * h and report.meaning.soft == (masks == 'avif')

def test_pictures_of_kinds_that_are_not_read_are_named(tmp_path):
    set_of(tmp_path, mask)
    for path in (tmp_path / 'images').iterdir(): path.rename(path.with_suffix('.HEIC'))
    with pytest.raises(ValueError, match='6 .heic files are not read'): scan_folder(tmp_path)
    for path in (tmp_path / 'images').iterdir(): path.rename(path.with_suffix('.nii.gz'))
    with pytest.raises(ValueError, match='6 .nii.gz files are not read'): scan_folder(tmp_path)

def test_background_that_a_list_names_may_be_white(tmp_path):
    set_of(tmp_path, lambda i: grey(~truth(i) * 255))
    write(tmp_path / 'labelmap.txt', 'disc:0,0,0::\nbackground:255,255,255::\n')
    check(tmp_path, 6)
    check(tmp_path, 6, positive=0); check(tmp_path, 6, positive='all'); check(tmp_path, 6, positive='disc')

def test_regions_in_a_dataset_json_leave_the_other_names(tmp_path):
    set_of(tmp_path, classes)
    write(tmp_path / 'dataset.json', json.dumps(dict(labels=dict(background=0, whole=[1, 2], disc=1, ring=2))))
    check(tmp_path, 6, positive='disc,ring')

def test_the_answer_for_many_numbers_is_all(tmp_path):
    def draw(i):
        ids = np.asarray(instances(np.uint16)(i)).copy(); ids[ids == 0] = ids.max() + 1; ids[0] = 0; return Image.fromarray(ids)
    set_of(tmp_path, draw)
    with pytest.raises(ValueError, match='--positive all or --positive 0'): scan_folder(tmp_path)

def in_parts(root):
    for i in range(6):
        part = ('train', 'train', 'valid')[i % 3]
        put(photo(i), root / f'{part}/images/{i}.png'); put(mask(i), root / f'{part}/masks [a]/{i}.png'); put(mask(i + 50), root / f'{part}/masks [b]/{i}.png')

def sets_of_two(first, second, few=6):
    def draw(root):
        for i in range(6): put(photo(i), root / f'images/{i}.png'); put(mask(i), root / f'{first}/{i}.png')
        for i in range(few): put(mask(i + 50), root / f'{second}/{i}.png')
    draw.__name__ = f'{first}_{second}_{few}'
    return draw

def fewer_with_suffix(root):
    for i in range(8): put(photo(i), root / f'{i}.png'); (i < 6) and put(mask(i), root / f'{i}_cat.png'); (i < 2) and put(mask(i + 50), root / f'{i}_dog.png')

@pytest.mark.parametrize('draw, options', [
    (sets_of_two('masks_cat', 'masks_dog', 2), dict(masks='masks_cat')), (fewer_with_suffix, dict(mask_suffix='_cat')), (sets_of_two('human_masks', 'dog_masks'), dict(masks='human_masks')),
    (sets_of_two('flower_masks', 'leaf_masks'), dict(masks='flower_masks')), (sets_of_two('object_masks', 'part_masks'), dict(masks='object_masks')), (in_parts, dict(masks='masks [a]'))], ids=lambda x: getattr(x, '__name__', ''))
def test_two_sets_are_asked_about_whatever_their_names_and_numbers(draw, options, tmp_path):
    draw(tmp_path)
    with pytest.raises(ValueError) as error: scan_folder(tmp_path)
    assert all(f'--{name.replace("_", "-")}' in str(error.value) and value in str(error.value) for name, value in options.items()), error.value
    check(tmp_path, 6, **options)

@pytest.mark.parametrize('named', ['{place}/{i}.png', 'all/{i}_{place}.png'])
def test_more_predictions_than_masks(named, tmp_path):
    "What a network found is no truth, and not because there is more of it."
    for i in range(14):
        put(photo(i), tmp_path / ('images' if 'all' not in named else 'all') / f'{i}.png'); put(mask(i + 50), tmp_path / named.format(place='pred', i=i))
        if i < 5: put(mask(i), tmp_path / named.format(place='gt', i=i))
    check(tmp_path, 5)

@pytest.mark.parametrize('colour', ['rgb', 'color'])
def test_depth_beside_colour_is_no_picture(colour, tmp_path):
    for i in range(6): put(photo(i), tmp_path / f'{colour}/{i}.png'); put(deep(i, 4000, np.uint16), tmp_path / f'depth/{i}.png'); put(mask(i), tmp_path / f'label/{i}.png')
    assert check(tmp_path, 6).pairs[0].picture.folders == (colour,)

def test_the_mask_beside_a_picture_is_its_own(tmp_path):
    for i in range(4): put(photo(i), tmp_path / f'cat/{i}.jpg'); put(mask(i), tmp_path / f'cat/{i}_mask.png'); put(photo(i + 20), tmp_path / f'dog/{i}.jpg')
    assert {pair.picture.folders for pair in check(tmp_path, 4).pairs} == {('cat',)}

@pytest.mark.parametrize('name', ['images/c{i}.png masks/c{i}/{k}.png', 's{i}/image.png s{i}/mask_{k}.png', 'train/images/c{i}.png train/masks/c{i}/{k}.png'])
def test_one_file_an_object_in_other_places(name, tmp_path):
    picture, one = name.split()
    for i in range(6):
        put(photo(i), tmp_path / picture.format(i=i))
        for k, part in enumerate(pieces(i)): put(grey(part * 255), tmp_path / one.format(i=i, k=k))
    put(photo(8), tmp_path / picture.format(i=8))
    report = check(tmp_path, 6)
    assert len(report.pairs[0].masks) == 2 and sum(map(len, report.left_out.values())) == 1 and 'without a mask' in str(report)

def test_classes_in_the_folder_of_a_picture_are_asked_about(tmp_path):
    for i in range(6):
        put(photo(i), tmp_path / f'images/c{i}.png'); put(mask(i), tmp_path / f'masks/c{i}/cat.png'); put(mask(i + 50), tmp_path / f'masks/c{i}/dog.png')
    with pytest.raises(ValueError, match='(?=.*--mask-suffix cat)(?=.*--mask-suffix dog)'): scan_folder(tmp_path)
    check(tmp_path, 6, mask_suffix='cat')

@pytest.mark.parametrize('tail', ['', '_mask'])
def test_the_whole_file_name_in_the_name_of_the_mask(tail, tmp_path):
    for i in range(8):
        end = ('jpg', 'png', 'JPG')[i % 3]
        put(photo(i), tmp_path / f'p{i}.{end}'); put(mask(i), tmp_path / f'p{i}.{end.lower()}{tail}.png')
    put(mask(20), tmp_path / f'p20.jpg{tail}.png'); put(photo(30), tmp_path / 'p30.png')
    report = check(tmp_path, 8)
    assert 'whole file name' in report.rule and {len(files) for files in report.left_out.values()} == {1}
    assert len(scan_folder(tmp_path, unmasked='background').pairs) == 9

def test_two_ways_of_naming_masks_are_said(tmp_path):
    for i in range(8): put(photo(i), tmp_path / f'p{i}.jpg'); put(mask(i), tmp_path / f'p{i}_{"mask" if i % 2 else "Mask"}.png')
    with pytest.raises(ValueError, match='name all alike.*--mask-suffix _Mask .4 masks.*--mask-suffix _mask .4 masks'): scan_folder(tmp_path)

def test_links_show_nothing_twice(tmp_path):
    two_folders(tmp_path)
    os.symlink(tmp_path, tmp_path / 'images/self'); os.symlink(tmp_path / 'images', tmp_path / 'latest'); os.symlink(tmp_path.parent, tmp_path / 'up')
    os.symlink(tmp_path / 'nothing.png', tmp_path / 'images/x.png')
    check(tmp_path, 6)

def test_pictures_that_are_linked_into_parts(tmp_path):
    for i in range(6):
        part = ('train', 'train', 'val')[i % 3]
        put(photo(i), tmp_path / f'raw/{i}.jpg'); put(mask(i), tmp_path / f'{part}/masks/{i}.png')
        (tmp_path / part / 'images').mkdir(exist_ok=True); os.symlink(f'../../raw/{i}.jpg', tmp_path / f'{part}/images/{i}.jpg')
    assert {part: len(rows) for part, rows in split_folder(check(tmp_path, 6)).items()} == dict(train=4, val=2, test=0)

@pytest.mark.parametrize('place', ['look.png', 'runs/a/look.png', 'sheet.png'])
def test_our_own_sheet_is_no_picture_of_the_set(place, tmp_path):
    from unet_course.datasets.look import write_sheet
    for i in range(6): put(photo(i), tmp_path / f'{i}.png'); put(mask(i), tmp_path / f'{i}_mask.png')
    before = scan_folder(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True); write_sheet(before, tmp_path / place)
    after = scan_folder(tmp_path, unmasked='background')
    assert after.fingerprint() == before.fingerprint() and str(after) == str(before) and Image.open(tmp_path / place).size[0] > 500

@pytest.mark.parametrize('name', ['$x_{i}^$', os.fsdecode(b'caf\xe9{i}'), 'a\n{i}', '[x={i},y=0] (1)'])
def test_names_that_a_drawing_or_a_shell_may_stumble_over(name, tmp_path):
    for i in range(4): put(photo(i), tmp_path / f'$i^/{name.replace("{i}", str(i))}.png'); put(mask(i), tmp_path / f'ma[s]k/{name.replace("{i}", str(i))}.png')
    report = scan_folder(tmp_path)
    assert len(report.pairs) == 4 and report.fingerprint()
    contact_sheet(report).savefig(tmp_path / 'x.png')

def test_the_rule_of_nnunet_says_what_it_does(tmp_path):
    nnunet(tmp_path)
    assert 'same name, without _0000: imagesTr/case_000_0000.png' in scan_folder(tmp_path).rule

@pytest.mark.parametrize('kinds', [('color', 'labelIds', 'instanceIds'), ('labelIds', 'color')])
def test_photos_come_before_drawings_of_the_masks(kinds, tmp_path):
    "The coloured version lies beside the mask, the photo in another folder."
    for i in range(8):
        part = 'train' if i < 6 else 'val'
        put(photo(i), tmp_path / f'leftImg8bit/{part}/p{i}_leftImg8bit.png')
        for kind in kinds: put(Image.merge('RGB', [mask(i, 200), mask(i, 0), mask(i, 60)]) if kind == 'color' else mask(i, 1), tmp_path / f'gtFine/{part}/p{i}_gtFine_{kind}.png')
    assert {pair.picture.folders[0] for pair in check(tmp_path, 8).pairs} == {'leftImg8bit'}
    for path in tmp_path.glob('leftImg8bit/*/*'): path.unlink()
    with pytest.raises(ValueError, match='none is the mask of another'): scan_folder(tmp_path)

def test_the_report_folds_under_its_subjects(tmp_path):
    from unet_course.datasets.look import fold_report
    two_folders(tmp_path, 12)
    report = scan_folder(tmp_path)
    lines = fold_report(report, 60).splitlines()
    assert max(map(len, lines[1:])) <= 60 < max(map(len, str(report).splitlines())) and all(line[:9].strip() == '' or line[9] == ' ' for line in lines[1:])
    assert ' '.join(fold_report(report, 60).split()) == ' '.join(str(report).split())
