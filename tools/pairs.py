"""Pairs that come apart: what real tools make of a picture and its mask, measured and stored.

    python tools/pairs.py                makes an environment in a temporary folder, measures there, writes results/pairs.json and .md
    python tools/pairs.py --env _pairs   keeps the environment in that folder (git ignores it) for the next time

Five questions, one table each: how many pixels one disc has in the rasterisers of annotation tools; where nearest neighbour puts a mask; which file
formats renumber the classes of a palette mask; what JPEG leaves of a class colour; what a decoder makes of a palette mask and of a turned photo.
A sixth asks a scorer: what it costs to miss a mask with a hole, once an exporter has called it a crowd. No picture is needed.
"""
import argparse
import importlib.metadata
import io
import json
import math
import os
import tempfile
import warnings
from pathlib import Path

import libraries

ROOT = Path(__file__).resolve().parent.parent
PINNED = ['torch==2.14.1', 'torchvision==0.29.1', 'torchcodec==0.17.0', 'numpy==2.2.6', 'pillow==12.3.0', 'opencv-python-headless==4.12.0.88', 'scikit-image==0.26.0',
          'scipy==1.17.1', 'matplotlib==3.11.2', 'rasterio==1.4.4', 'pycocotools==2.0.11', 'datumaro==1.13.12', 'supervision==0.31.2', 'labelme==6.3.1',
          'albumentations==2.0.8', 'kornia==0.9.0', 'pyoxipng==9.1.1']


def disc(size: int, x: float, y: float, radius: float):  # bool [size, size]
    "Return the pixels whose centres lie in a disc; a pixel's corners have whole coordinates."
    import numpy as np
    rows, columns = np.mgrid[:size, :size] + .5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius ** 2


def beside(found, wanted) -> dict:  # two bool [H, W]
    "Return the pixels of a mask, its IoU with the wanted one, and how far it lies from it."
    import numpy as np
    found = np.asarray(found) > .5
    shift = [float(a.mean() - b.mean()) for a, b in zip(np.nonzero(found), np.nonzero(wanted))]
    return dict(pixels=int(found.sum()), iou=float((found & wanted).sum() / (found | wanted).sum()), right=shift[1], down=shift[0])


def rasterisers(size: int = 40, x: float = 16.3, y: float = 15.8, radius: float = 6.53) -> list:
    "Return what each tool fills for one polygon of 72 corners on a circle."
    import cv2
    import numpy as np
    import rasterio.features
    import supervision
    from datumaro.util.mask_tools import rles_to_mask
    from labelme.utils import shape_to_mask
    from matplotlib.path import Path as Outline
    from PIL import Image, ImageDraw
    from pycocotools import mask as coco
    from skimage.draw import polygon2mask
    points = [(x + radius * math.cos(2 * math.pi * k / 72), y + radius * math.sin(2 * math.pi * k / 72)) for k in range(72)]
    corners = np.array(points)
    ring = dict(type='Polygon', coordinates=[points + points[:1]])
    pillow, opencv = Image.new('L', (size, size)), np.zeros((size, size), np.uint8)
    ImageDraw.Draw(pillow).polygon(points, fill=1)
    cv2.fillPoly(opencv, [corners.round().astype(np.int32)], 1)
    grid = np.stack(np.meshgrid(range(size), range(size)), -1).reshape(-1, 2)
    masks = {'rasterio, rasterize': rasterio.features.rasterize([ring], (size, size)), 'rasterio, rasterize(all_touched=True)': rasterio.features.rasterize([ring], (size, size), all_touched=True),
             'pycocotools, frPyObjects': coco.decode(coco.frPyObjects([corners.ravel().tolist()], size, size))[:, :, 0], 'datumaro, rles_to_mask': rles_to_mask([corners.ravel().tolist()], size, size),
             'scikit-image, polygon2mask': polygon2mask((size, size), corners[:, ::-1]), 'matplotlib, Path.contains_points': Outline(points).contains_points(grid).reshape(size, size),
             'labelme, polygon': shape_to_mask((size, size), points, 'polygon'), 'labelme, circle': shape_to_mask((size, size), [(x, y), (x + radius, y)], 'circle'),
             'Pillow, ImageDraw.polygon': np.array(pillow), 'OpenCV, fillPoly of rounded corners': opencv, 'supervision, polygon_to_mask': supervision.polygon_to_mask(corners, (size, size))}
    wanted = disc(size, x, y, radius)
    return [dict(tool='pixels whose centres lie in the disc', **beside(wanted, wanted))] + [dict(tool=tool, **beside(mask, wanted)) for tool, mask in masks.items()]


def nearest(before: int = 356, after: int = 128) -> list:
    "Return where each library's nearest neighbour puts a disc that is made smaller, the mean of 25 discs; a picture that is averaged lies at 0."
    import albumentations
    import cv2
    import kornia
    import numpy as np
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from scipy.ndimage import zoom
    from skimage.transform import resize
    from torchvision import tv_tensors
    from torchvision.transforms import v2
    scale, size, found = after / before, (after, after), {}
    centres = [(before / 2 + across, before / 2 + down) for across in (-1.1, -.5, 0., .6, 1.2) for down in (-1.3, -.7, .1, .5, .9)]
    for x, y in centres:  # several, since whole pixels hide part of a shift
        large = disc(before, x, y, 70.).astype(np.uint8)
        tensor = torch.from_numpy(large)[None, None].float()
        masks = {'Pillow, NEAREST': np.array(Image.fromarray(large).resize(size, Image.Resampling.NEAREST)), 'torch, nearest': F.interpolate(tensor, size, mode='nearest')[0, 0].numpy(),
                 'torch, nearest-exact': F.interpolate(tensor, size, mode='nearest-exact')[0, 0].numpy(), 'torchvision v2, Resize of a Mask': v2.Resize(size)(tv_tensors.Mask(torch.from_numpy(large)[None]))[0].numpy(),
                 'OpenCV, INTER_NEAREST': cv2.resize(large, size, interpolation=cv2.INTER_NEAREST), 'OpenCV, INTER_NEAREST_EXACT': cv2.resize(large, size, interpolation=cv2.INTER_NEAREST_EXACT),
                 'albumentations, Resize': albumentations.Resize(after, after)(image=np.dstack([large] * 3), mask=large)['mask'], 'kornia, resize': kornia.geometry.resize(tensor, size, interpolation='nearest')[0, 0].numpy(),
                 'scikit-image, resize(order=0)': resize(large, size, order=0, preserve_range=True), 'SciPy, zoom(order=0)': zoom(large, scale, order=0)}
        wanted = disc(after, x * scale, y * scale, 70. * scale)
        for tool, mask in masks.items(): found.setdefault(tool, []).append(beside(mask, wanted))
    return [dict(tool=tool) | {key: float(np.mean([r[key] for r in several])) for key in several[0]} for tool, several in found.items()]


def palette_mask():
    "Return a Pillow image in mode P with the classes 0, 7 and 15, in three colours."
    import numpy as np
    from PIL import Image
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 10:30], labels[35:60, 20:50] = 15, 7
    image, palette = Image.fromarray(labels, 'P'), [0] * 768
    palette[21:24], palette[45:48] = (128, 128, 128), (192, 128, 128)
    image.putpalette(palette)
    return image


def saved(image, kind: str, **options) -> bytes:
    "Return the bytes of a file."
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def formats() -> list:
    "Return which classes a palette mask has after it was saved or optimised; its colours stay."
    import numpy as np
    import oxipng
    from PIL import Image
    files = {'Pillow, PNG': saved(palette_mask(), 'PNG'), 'Pillow, PNG, optimize=True': saved(palette_mask(), 'PNG', optimize=True), 'oxipng, its default level': oxipng.optimize_from_memory(saved(palette_mask(), 'PNG')),
             'Pillow, GIF': saved(palette_mask(), 'GIF'), 'Pillow, GIF, optimize=False': saved(palette_mask(), 'GIF', optimize=False), 'Pillow, TIFF': saved(palette_mask(), 'TIFF')}
    wanted, rows = np.array(palette_mask().convert('RGB')), []
    for tool, data in files.items():
        opened = Image.open(io.BytesIO(data))
        rows.append(dict(tool=tool, mode=opened.mode, classes=np.unique(np.array(opened)).tolist(), same_colours=bool((np.array(opened.convert('RGB')) == wanted).all())))
    return rows


def jpeg() -> list:
    "Return which share of a disc in one colour is that colour still, and the IoU of the pixels that are nearer to it than to black."
    import numpy as np
    from PIL import Image
    inside, rows = disc(128, 64, 61, 25), []
    for name, colour in {'255, 0, 0': (255, 0, 0), '128, 0, 0': (128, 0, 0), '0, 128, 0': (0, 128, 0), '128, 128, 0': (128, 128, 0), '0, 0, 128': (0, 0, 128)}.items():
        for quality in (100, 75):
            picture = inside[..., None] * np.array(colour, np.uint8)
            read = np.array(Image.open(io.BytesIO(saved(Image.fromarray(picture), 'JPEG', quality=quality)))).astype(int)
            near = np.abs(read - colour).sum(-1) < np.abs(read).sum(-1)
            rows.append(dict(colour=name, quality=quality, exact=float((read[inside] == colour).all(-1).mean()), nearest_iou=float((near & inside).sum() / (near | inside).sum())))
    return rows


def decoders() -> list:
    "Return the shape and the values that each decoder gives for a palette mask, and the shape for a photo that its EXIF note says to turn."
    import numpy as np
    import torch
    import torchcodec.decoders
    import torchvision.io
    from PIL import Image
    photo = Image.new('RGB', (60, 40), (90, 120, 60))
    exif = photo.getexif()
    exif[0x0112] = 6
    mask, photo = saved(palette_mask(), 'PNG'), saved(photo, 'JPEG', exif=exif)
    def tensor(data): return torch.frombuffer(bytearray(data), dtype=torch.uint8)
    readers = {'Pillow, Image.open': lambda data: np.atleast_3d(np.array(Image.open(io.BytesIO(data)))).transpose(2, 0, 1), 'torchvision, io.decode_image': lambda data: torchvision.io.decode_image(tensor(data)).numpy(),
               'torchcodec, decode_image': lambda data: torchcodec.decoders.decode_image(tensor(data)).numpy()}
    return [dict(tool=tool, mask_shape=list(read(mask).shape), mask_values=np.unique(read(mask)).tolist(), photo_shape=list(read(photo).shape)) for tool, read in readers.items()]


def crowds() -> list:
    "Return the average precision of a detector that finds the whole square and misses the ring, by what the exporter said of the ring."
    import contextlib
    import numpy as np
    import supervision
    from pycocotools import mask as coco
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    square, ring = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    square[10:60, 10:60], ring[80:180, 80:180], ring[110:150, 110:150] = True, True, False
    masks = np.stack([square, ring])
    with tempfile.TemporaryDirectory() as folder:
        detections = supervision.Detections(xyxy=supervision.mask_to_xyxy(masks), mask=masks, class_id=np.array([0, 0]))
        file = Path(folder, 'a.json')
        supervision.DetectionDataset(classes=['pet'], images={'a.png': np.zeros((200, 200, 3), np.uint8)}, annotations={'a.png': detections}).as_coco(annotations_path=str(file))
        written, rows = json.loads(file.read_text()), []
        for change in (False, True):
            truth = json.loads(json.dumps(written))
            if change:
                for annotation in truth['annotations']: annotation['iscrowd'] = 0
            file.write_text(json.dumps(truth))
            with contextlib.redirect_stdout(io.StringIO()):
                data = COCO(str(file))
                rle = coco.encode(np.asfortranarray(square.astype(np.uint8)))
                first = truth['annotations'][0]
                score = COCOeval(data, data.loadRes([dict(image_id=first['image_id'], category_id=first['category_id'], segmentation=rle, score=.9)]), 'segm')
                score.evaluate(), score.accumulate(), score.summarize()
            rows.append(dict(file='iscrowd set to 0 by hand' if change else 'as supervision writes it', iscrowd=[a['iscrowd'] for a in truth['annotations']], average_precision=float(score.stats[1])))
    return rows


def transforms() -> dict:
    "Return what torchvision's v2 transforms do to a mask that lost its class, and to a trimap that came in as a Pillow image."
    import numpy as np
    import torch
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2
    image, mask = tv_tensors.Image(torch.arange(12, dtype=torch.uint8).view(1, 3, 4)), tv_tensors.Mask(torch.arange(12, dtype=torch.uint8).view(1, 3, 4))
    flip = v2.RandomHorizontalFlip(p=1)
    steps = {'as it is': mask, '.long()': mask.long(), '== 1': mask == 1, '.cpu()': mask.cpu(), '.clone()': mask.clone(), '[:, :2]': mask[:, :2]}
    turned = {name: not torch.equal(torch.as_tensor(flip(image, step)[1]), torch.as_tensor(step)) for name, step in steps.items()}
    trimap = np.full((40, 40), 2, np.uint8)
    trimap[10:30, 10:30] = 1
    small = v2.Compose([v2.ToImage(), v2.Resize((16, 16))])(Image.fromarray(trimap * 100))
    return dict(flipped_with_its_image=turned, to_image_class=type(v2.ToImage()(Image.fromarray(trimap))).__name__, values_after_resize=small.unique().tolist()[:8], values_before=[100, 200])


def measure() -> dict:
    "Return all tables, with the versions."
    warnings.simplefilter('ignore')
    os.environ.setdefault('QT_QPA_PLATFORM', 'offscreen')
    names = [pin.split('==')[0] for pin in PINNED]
    return dict(versions={name: importlib.metadata.version(name) for name in names}, rasterisers=rasterisers(), nearest=nearest(), formats=formats(), jpeg=jpeg(), decoders=decoders(), crowds=crowds(), transforms=transforms())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--env', type=Path, help='folder of the environment; is made if it is not there (default: a temporary one)')
    parser.add_argument('--out', type=Path, default=ROOT / 'results')
    parser.add_argument('--measure', action='store_true', help='measure in this environment and print JSON')
    args = parser.parse_args()
    if args.measure: return print(json.dumps(measure()))
    found = libraries.measured_elsewhere(Path(__file__), PINNED, args.env, [])
    (args.out / 'pairs.json').write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()
