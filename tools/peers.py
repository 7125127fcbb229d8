"""Reference rows: other libraries' U-Nets on the same images, split, recipe and budget as the course's.

    pip install ".[bench]"
    python tools/peers.py --out results/peers

Each network is trained by the course's `Trainer` with the course protocol's recipe and measured like a run; one JSON file a network
and loss, and `table.md` with all of a setting. What is there is not trained again.
"""
import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from unet_course.data import course_split  # noqa: E402
from unet_course.datasets.oxford_pets import load_pets  # noqa: E402
from unet_course.experiments import PROTOCOLS, loss_arguments  # noqa: E402
from unet_course.runs.callbacks import Progress  # noqa: E402
from unet_course.runs.evaluation import evaluate  # noqa: E402
from unet_course.runs.tables import describe  # noqa: E402
from unet_course.support.device import machine  # noqa: E402
from unet_course.support.files import read_json  # noqa: E402
from unet_course.factory import count_parameters  # noqa: E402
from unet_course.support.text import markdown_table  # noqa: E402
from unet_course.losses import make_loss  # noqa: E402
from unet_course.support.device import choose_amp, choose_device, peak_memory_mb  # noqa: E402
from unet_course.support.files import write_json  # noqa: E402
from unet_course.training import Trainer, TrainingData  # noqa: E402


def monai_unet(width: int, **options):
    "MONAI's BasicUNet with the course's widths."
    from monai.networks.nets import BasicUNet
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=(width, 2 * width, 4 * width, 8 * width, 16 * width, width), **options)


def smp_unet(width: int):
    "segmentation_models_pytorch's U-Net on a ResNet-34 without pretrained weights; its widths are its own."
    import segmentation_models_pytorch as smp
    return smp.Unet('resnet34', encoder_weights=None, in_channels=3, classes=1)


PEERS = {'monai-basicunet': monai_unet, 'monai-basicunet-bn-relu': lambda width: monai_unet(width, act='relu', norm='batch'), 'smp-unet-resnet34': smp_unet}
NAMES = {'monai-basicunet': 'MONAI BasicUNet as it comes (instance norm, leaky ReLU)', 'monai-basicunet-bn-relu': 'MONAI BasicUNet with batch norm and ReLU',
         'smp-unet-resnet34': 'segmentation_models_pytorch Unet, ResNet-34, from scratch'}


def multiply_adds(model, size: int) -> int:
    "The multiply-adds of one image, counted by torch: a peer's modules may return lists, which `count_macs` does not read."
    with FlopCounterMode(display=False) as counter, torch.no_grad(): model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    return counter.get_total_flops() // 2


def train(name: str, loss: str, args, pets, split, device) -> dict:
    "The figures of one peer, trained and measured now."
    torch.manual_seed(args.seed)
    recipe, amp = replace(PROTOCOLS['course'], epochs=args.epochs), choose_amp('auto', device)
    options = loss_arguments(loss)
    data = TrainingData(pets, split, device=device)
    trainer = Trainer(PEERS[name](args.width), make_loss(loss, **options).to(device), data, recipe, [Progress()], args.seed, amp)
    best = trainer.fit()
    model = trainer.model
    model.load_state_dict(best['state'])
    model.eval()
    figures, _, threshold = evaluate(model, data.pets, split, 'background', device, options.get('pos_weight', 1.0))
    return dict(network=name, loss=loss, seed=args.seed, data='pets', protocol='course', width=args.width, size=args.size, border='background', epochs=args.epochs,
                recipe=asdict(recipe), parameters=count_parameters(model), macs=multiply_adds(model, args.size), best_epoch=best['epoch'], threshold=threshold, **figures,
                seconds=round(sum(row['seconds'] for row in trainer.history), 1), peak_memory_mb=peak_memory_mb(device), **machine(device, amp))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path)
    parser.add_argument('--out', type=Path, default=Path('results/peers'))
    for name, default in dict(width=16, size=64, epochs=5, seed=0).items(): parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--peers', default=','.join(PEERS), metavar='NAMES')
    parser.add_argument('--losses', default='bce,dice')
    args = parser.parse_args()
    device = choose_device()
    pets = load_pets(args.root, args.size)
    folder = args.out / f'pets-course-w{args.width}-{args.size}px-{args.epochs}epochs'
    folder.mkdir(parents=True, exist_ok=True)
    for loss in args.losses.split(','):
        for name in args.peers.split(','):
            path = folder / f'{name}-{loss}-seed{args.seed}.json'
            if not path.exists(): write_json(train(name, loss, args, pets, course_split(pets), device), path)
    found = [read_json(path) for path in sorted(folder.glob('*.json'))]
    rows = [{'Network': NAMES[r['network']], 'Loss': r['loss'], 'Seed': r['seed'], 'Parameters': r['parameters'], 'MACs': r['macs'], 'Test Accuracy': f"{100 * r['test']['accuracy']:.2f} %",
             'Test IoU': f"{r['test']['iou']:.4f}", 'Test Dice': f"{r['test']['dice']:.4f}", 'Images/s': f"{len(course_split(pets)['train']) * r['epochs'] / r['seconds']:.0f}"} for r in found]
    head = f'{describe(found[0])}; {found[0]["device"]}, AMP {found[0]["amp"]}; the same images, split, recipe and budget as the course\'s networks.\n\n'
    (folder / 'table.md').write_text(head + markdown_table(rows) + '\n', encoding='utf-8')
    print(head + markdown_table(rows))


if __name__ == '__main__':
    main()
