"""Draw nbs/images/overview.png and runs.png (index and README); tools/screenshots.py makes the other pictures.

    python tools/pictures.py

The first is drawn: its pets are synthetic pets, and the U is the course's network in outline. The second shows the runs in results/ that carry the verdicts. favicon.svg is written by hand.
"""
import sys
from pathlib import Path

import matplotlib
matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.data import PET  # noqa: E402
from unet_course.analysis import plot_runs  # noqa: E402
from unet_course.datasets.synthetic import draw_pet  # noqa: E402
from unet_course.runs.factorials import find_factorials  # noqa: E402

INK, ENCODER, DECODER, SKIP, MASK = '#17324d', '#1b6ca8', '#c2410c', '#64748b', '#ffc933'
WIDTHS = (.16, .24, .34, .46, .6)  # of the boxes, level by level: more channels, lower resolution


def covered(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    "The picture in grey with its pet in the mask's colour."
    grey = image.mean(2, keepdims=True).repeat(3, 2) * .55
    colour = np.array(matplotlib.colors.to_rgb(MASK)) * 255
    return np.where((trimap == PET)[..., None], .35 * image + .65 * colour, grey).astype(np.uint8)


def draw_outline(ax):
    "The U: four stages down, the bottleneck, four stages up, and a skip connection across each level."
    depth, heights = len(WIDTHS) - 1, [1.5, 1.15, .85, .6, .42]
    y = np.cumsum([0] + [-(heights[i] / 2 + heights[i + 1] / 2 + .34) for i in range(depth)])
    x = np.array([0, .85, 1.75, 2.7, 4.2])
    def box(cx, level, face):
        ax.add_patch(FancyBboxPatch((cx - WIDTHS[level] / 2, y[level] - heights[level] / 2), WIDTHS[level], heights[level], 'round,pad=0,rounding_size=.06', facecolor=face, edgecolor='none'))
    def arrow(a, b, colour, style='-'): ax.annotate('', b, a, arrowprops=dict(arrowstyle='-|>', color=colour, lw=1.8, linestyle=style, shrinkA=2, shrinkB=2))
    right = 2 * x[-1] - x
    for level in range(depth):
        box(x[level], level, ENCODER)
        box(right[level], level, DECODER)
        arrow((x[level] + WIDTHS[level] / 2, y[level]), (right[level] - WIDTHS[level] / 2, y[level]), SKIP, '--')
        low, high = y[level + 1] + (heights[level + 1] / 2 if level + 1 < depth else 0), y[level] - heights[level] / 2
        if level + 1 < depth:
            arrow((x[level] + .05, high), (x[level + 1] - .1, low), ENCODER)
            arrow((right[level + 1] + .1, low), (right[level] - .05, high), DECODER)
    arrow((x[depth - 1] + .05, y[depth - 1] - heights[depth - 1] / 2), (x[depth] - WIDTHS[depth] / 2, y[depth]), ENCODER)
    arrow((x[depth] + WIDTHS[depth] / 2, y[depth]), (right[depth - 1] - .05, y[depth - 1] - heights[depth - 1] / 2), DECODER)
    box(x[depth], depth, INK)
    ax.text(x[-1], y[0] + .14, 'skip connections', color=SKIP, ha='center', va='bottom', fontsize=10)
    ax.text(x[1] - .1, y[3] - .15, 'encoder', color=ENCODER, ha='center', va='center', fontsize=11)
    ax.text(right[1] + .1, y[3] - .15, 'decoder', color=DECODER, ha='center', va='center', fontsize=11)
    ax.text(x[-1], y[-1] - .34, 'bottleneck', color=INK, ha='center', va='top', fontsize=10)
    ax.set(xlim=(-.3, right[0] + .3), ylim=(y[-1] - .75, heights[0] / 2 + .1), aspect='equal')
    ax.axis('off')


def save(fig, path: Path, colours: int = 128, **notes):
    "The figure as a small PNG of at most `colours` colours, with notes in its header."
    fig.savefig(path)
    plt.close(fig)
    header = PngImagePlugin.PngInfo()
    for name, text in notes.items(): header.add_text(name, text)
    Image.open(path).convert('RGB').quantize(colours, Image.Quantize.MEDIANCUT).save(path, optimize=True, pnginfo=header)
    print(f'{path.relative_to(ROOT)}: {Image.open(path).size}, {path.stat().st_size / 1024:.0f} KB')


def overview(path: Path, pet: tuple[int, int] = (0, 28)):
    "One pet, the U-Net in outline, and the truth it is trained on, in a row."
    image, trimap, _ = draw_pet(*pet, size=128)
    fig, axes = plt.subplots(1, 3, figsize=(10, 3.3), dpi=100, facecolor='white', width_ratios=(1, 2.1, 1), layout='constrained')
    axes[0].imshow(image, interpolation='nearest')
    axes[0].set_title('a picture', fontsize=11, color=INK)
    draw_outline(axes[1])
    axes[2].imshow(covered(image, trimap), interpolation='nearest')
    axes[2].set_title('its pet: the truth to learn', fontsize=11, color=INK)
    for ax in (axes[0], axes[2]): ax.set(xticks=[], yticks=[])
    save(fig, path)


def shown_by(factorial) -> str:
    "What runs.png shows: the runs, and the mean IoU of each variant at both thresholds; a test compares it with results/."
    means = (factorial.values(key).mean(0) for key in ('test_iou_threshold', 'test_iou'))
    return f'{factorial}: ' + ' '.join(f'{value:.4f}' for values in means for value in values)


def runs(path: Path):
    "Every run of the factorial at both thresholds."
    factorial = find_factorials(ROOT / 'results')[0]
    save(plot_runs(factorial.values('test_iou_threshold'), factorial.values('test_iou')), path, 32, shows=shown_by(factorial))


if __name__ == '__main__':
    (ROOT / 'nbs/images').mkdir(exist_ok=True)
    overview(ROOT / 'nbs/images/overview.png')
    runs(ROOT / 'nbs/images/runs.png')
