"""Make unet_course/weights/ from finished runs: half the bytes, and figures taken after the round trip through the file.

    python tools/ship_weights.py runs/pets-course-w16-128px-60ep --seed 0

For each variant of the factorial: convolutions in fp16, batch norm in fp32, written, read back with `load_weights`, and measured on the
validation and test images. `card.json` and `README.md` beside the files say what they are and what they are not for.
"""
import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.experiments import FACTORIAL  # noqa: E402
from unet_course.runs.evaluation import keep_counts, measure, summarise  # noqa: E402
from unet_course.runs.run_folder import RunFolder  # noqa: E402
from unet_course.runs.runner import load_data  # noqa: E402
from unet_course.support.text import markdown_table  # noqa: E402
from unet_course.prediction import load_weights, save_weights  # noqa: E402
from unet_course.support.files import write_json  # noqa: E402

CARD = '''# Trained weights

Eight small U-Nets, one for each variant of the factorial, for pictures, widgets and `unet-course predict`. They are runs of the
setting and seed named below, not of the original's scale.

- **Trained on**: {setting}, seed {seed}, best epoch by validation IoU. Convolutions are stored in fp16, batch norm in fp32.
- **Figures**: on the official splits, taken after the round trip through these files, in fp32 on {device}.
- **Input**: a photograph squashed to {size}x{size} pixels, RGB / 255. `load_pretrained` and `predict` do this.
- **Data and licence**: Oxford-IIIT Pet, Parkhi, Vedaldi, Zisserman, Jawahar, CVPR 2012, CC BY-SA 4.0; the weights are shared under the same
  licence.
- **Not for**: anything but cats and dogs in ordinary photographs; several animals; decisions that matter to anyone.

{table}
'''


def halved(model) -> dict:
    "The weights of a network: convolutions in fp16, batch norm, which has running means, as it is."
    weights = model.state_dict()
    def convolution(name): return name.endswith(('.weight', '.bias')) and f'{name.rpartition(".")[0]}.running_mean' not in weights
    return {name: values.half() if convolution(name) else values for name, values in weights.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, help='a setting folder: <out>/pets-course-w16-...')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--root', type=Path)
    args = parser.parse_args()
    target = ROOT / 'unet_course/weights'
    target.mkdir(exist_ok=True)
    rows, card = [], {}
    for variant in FACTORIAL:
        run = RunFolder(args.runs / variant.id / f'seed{args.seed}')
        model, config = load_weights(run.weights)
        save_weights(target / f'{variant.id}.pth', halved(model), config)
        model, config = load_weights(target / f'{variant.id}.pth')
        setting, threshold = run.setting, config['threshold']
        pets, split = load_data(setting, args.root)
        options = setting.border, 'cpu', config['loss'].get('pos_weight', 1.0), 64, threshold
        model.to(memory_format=torch.channels_last)
        figures = {part: summarise(keep_counts(measure(model, pets, split[part], *options), threshold)) for part in ('val', 'test')}
        plain = {k: config[k] for k in ('data', 'protocol', 'width', 'size', 'border', 'seed', 'amp')} | dict(epochs=setting.recipe.epochs)
        card[variant.id] = dict(setting=plain, trained=run.metrics['device'], **figures)
        rows.append({'Variant': f'`{variant.id}`', 'Val IoU': f"{figures['val']['iou']:.4f}", 'Test IoU': f"{figures['test']['iou']:.4f}", 'Test IoU, own threshold': f"{figures['test']['iou_threshold']:.4f}",
                     'Test Dice': f"{figures['test']['dice']:.4f}",
                     'Test Accuracy': f"{100 * figures['test']['accuracy']:.2f} %", 'KB': (target / f'{variant.id}.pth').stat().st_size // 1024})
        print(rows[-1], flush=True)
    write_json(card, target / 'card.json')
    (target / 'README.md').write_text(CARD.format(setting=setting, seed=args.seed, device='a CPU', size=setting.size, table=markdown_table(rows)), encoding='utf-8')


if __name__ == '__main__':
    main()
