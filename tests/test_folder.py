"""Folders of people's own pictures: every layout and format is drawn here, with its truth, and read back."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
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
