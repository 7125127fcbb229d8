"""Put the same masks through the metrics and losses of twelve libraries, and store what each of them says.

    python tools/libraries.py                    makes an environment in a temporary folder, measures there, writes results/libraries.json and .md
    python tools/libraries.py --env _libraries   keeps the environment in that folder (git ignores it) for the next time
    python tools/libraries.py --measure          measures here and now, and prints; libraries that are missing are left out

The page nbs/workshop/libraries.ipynb reads the stored table, and tests/test_libraries.py holds it to the course's own counts.
None of these libraries is a requirement of the package.
"""
import argparse
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
import venv
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IGNORE = 255
EVERY = 8  # of the test images, the masks of which one goes through the libraries
# import name: the release on the package index that the stored table was made with.
PINNED = dict(torch='torch==2.14.1', torchmetrics='torchmetrics==1.9.0', monai='monai==1.6.1', segmentation_models_pytorch='segmentation_models_pytorch==0.6.0',
              sklearn='scikit-learn==1.9.1', keras='keras==3.15.1', medpy='MedPy==0.5.2', scipy='scipy==1.17.1', SimpleITK='SimpleITK==2.5.7', pymia='pymia==0.3.4',
              ignite='pytorch-ignite==0.5.5', kornia='kornia==0.9.0', surface_distance='surface-distance==0.1')


# The masks. All are made of blocks, so that the counts can be done by hand.

def block(size: int, top: int, left: int, height: int, width: int):
    "Return a mask, uint8 [1, size, size], with one rectangle of ones."
    import torch
    mask = torch.zeros(1, size, size, dtype=torch.uint8)
    mask[:, top:top + height, left:left + width] = 1
    return mask


def cases() -> dict:  # name: (prediction, target, whether 255 is named to the library)
    "Return the predictions and targets, [B, 1, H, W] each."
    import torch
    large, found = block(16, 2, 2, 12, 10), block(16, 2, 4, 12, 10)   # tp 96, fp 24, fn 24
    small, missed = block(16, 4, 4, 4, 4), block(16, 6, 4, 4, 5)      # tp 8, fp 12, fn 8
    nothing, alarm = block(16, 0, 0, 0, 0), block(16, 1, 1, 3, 5)
    normal = torch.stack([found, missed]), torch.stack([large, small])
    marked = normal[1].clone()
    marked[..., 4:6] = IGNORE  # two columns, pet and background
    shy = torch.where(large[None].bool(), .3, -.1).clamp(0, 1) + .05  # as logits all above 0, as probabilities all below one half
    shy[..., 2:8, 2:8] += .5
    return dict(
        normal=(*normal, False),
        both_empty=(nothing[None], nothing[None], False),
        false_alarm=(alarm[None], nothing[None], False),
        batch=(torch.stack([found, missed, nothing, alarm]), torch.stack([large, small, nothing, nothing]), False),
        ignored=(normal[0], marked, True),
        left_in=(normal[0], marked, False),
        shy=(shy, large[None], False))


def masks_of(counts):  # [B, 4]: tp, fp, fn, tn, of pictures of one size
    "Return a prediction and a target, uint8 [B, 1, 1, pixels] each, that have these counts: an overlap knows nothing else of two masks."
    import torch
    counts = torch.as_tensor(counts, dtype=torch.int64)
    kind = torch.arange(4).repeat(len(counts)).repeat_interleave(counts.flatten()).view(len(counts), 1, 1, -1)
    return (kind < 2).byte(), ((kind == 0) | (kind == 2)).byte()


# The course's figures, all of them from the four counts of each image.

def figures(counts) -> dict:  # name: number
    "Return every figure that one of the libraries may mean, from counts [B, 4] of the course's `pixel_counts`."
    from unet_course.losses import dice, iou
    empty, found = counts[:, [0, 2]].sum(1) == 0, {}
    background = counts[:, [3, 2, 1, 0]]  # the other class: its true positives are the true negatives
    for name, measure in (('IoU', iou), ('Dice', dice)):
        each, other, both = measure(counts), measure(background), counts[:, :3].sum(1) == 0
        known, mean = ~both, lambda x: x.mean().item() if len(x) else math.nan
        found |= {f'{name} per image': mean(each),  # the course's own
                  f'{name} over the data set': measure(counts.sum(0)).item(),
                  f'{name} per image, both empty counts 0': mean(each.masked_fill(both, 0)),
                  f'{name} per image, both empty left out': mean(each[known]),
                  f'{name} per image, empty targets left out': mean(each[~empty]),
                  f'{name} per image, pet and background averaged': mean((each + other) / 2),
                  f'{name} per image and class, absent classes left out': ((each * known).sum() + other.sum()).item() / (known.sum() + len(other)).item(),
                  f'{name} over the data set, pet and background averaged': (measure(counts.sum(0)) + measure(background.sum(0))).item() / 2}
    return found


def names_of(value, found: dict) -> list:
    "Return the names of the figures that `value` equals to 1e-4 (some libraries add that much against division by zero)."
    return [name for name, figure in found.items() if isinstance(value, float) and math.isclose(value, figure, abs_tol=1e-4)]


# The libraries. A row: import name, call, the convention in words, whether a value can be ignored, the function of (prediction, target, that value or None).

def rows() -> list:
    "Return the rows of the table; each imports its library when it is called."
    import numpy as np
    import torch

    def arrays(f):  # a function of two arrays, called for each image
        return lambda p, t, ignore: float(np.mean([f(a, b) for a, b in zip(p[:, 0].numpy(), t[:, 0].numpy())]))

    def flat(f):  # a function of two lists of labels
        return lambda p, t, ignore: float(f(p.flatten().numpy(), t.flatten().numpy()))

    def one_hot(x): return torch.nn.functional.one_hot(x[:, 0].long(), 2).movedim(-1, 1)

    def torchmetrics(name):
        def call(p, t, ignore):
            import torchmetrics.functional.classification as m
            return getattr(m, name)(p, t.long(), ignore_index=ignore)
        return call

    def torchmetrics_segmentation(name, **options):
        def call(p, t, ignore):
            import torchmetrics.segmentation as m
            metric = getattr(m, name)(num_classes=2, input_format='index', **options)
            metric.update(p[:, 0].long() if not p.is_floating_point() else p[:, 0], t[:, 0].long())
            return metric.compute()
        return call

    def monai(name, **options):
        def call(p, t, ignore):
            import monai.metrics as m
            metric = getattr(m, name)(**options, **({} if ignore is None else dict(ignore_index=ignore)))
            metric(p.float(), t.float())
            return metric.aggregate()
        return call

    def smp(score, **options):
        def call(p, t, ignore):
            import segmentation_models_pytorch.metrics as m
            cut = dict(threshold=.5) if p.is_floating_point() else {}
            return getattr(m, score)(*m.get_stats(p, t.long(), mode='binary', ignore_index=ignore, **cut), **options)
        return call

    def smp_classes(p, t, ignore):
        import segmentation_models_pytorch.metrics as m
        return m.iou_score(*m.get_stats(p[:, 0].long(), t[:, 0].long(), mode='multiclass', num_classes=2, ignore_index=ignore), reduction='micro-imagewise')

    def keras(name, **options):
        def call(p, t, ignore):
            import keras.metrics as m
            metric = getattr(m, name)(**options, **({} if ignore is None else dict(ignore_class=ignore)))
            metric.update_state(t.numpy(), p.numpy())
            return float(metric.result())
        return call

    def keras_f1(p, t, ignore):
        import keras.metrics as m
        metric = m.F1Score(threshold=.5)
        metric.update_state(t.reshape(-1, 1).float().numpy(), p.reshape(-1, 1).float().numpy())
        return float(metric.result()[0])

    def medpy(name):
        def call(a, b):
            import medpy.metric.binary as m
            return getattr(m, name)(a, b)
        return arrays(call)

    def scipy(name):
        def call(a, b):
            import scipy.spatial.distance as m
            return 1 - getattr(m, name)(a.astype(bool), b.astype(bool))
        return flat(call)

    def sklearn(name):
        def call(a, b):
            import sklearn.metrics as m
            return getattr(m, name)(b, a)
        return flat(call)

    def sitk(name, *label):
        def call(a, b):
            import SimpleITK
            SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
            overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
            overlap.Execute(SimpleITK.GetImageFromArray(b), SimpleITK.GetImageFromArray(a))
            return getattr(overlap, name)(*label)
        return arrays(call)

    def pymia(name):
        def call(a, b):
            import pymia.evaluation.metric as m
            metric = getattr(m, name)()
            metric.confusion_matrix = m.ConfusionMatrix(a, b)
            return metric.calculate()
        return arrays(call)

    def ignite(name, pick):
        def call(p, t, ignore):
            import ignite.metrics as m
            matrix = m.ConfusionMatrix(num_classes=2)
            metric = getattr(m, name)(matrix)
            matrix.update((one_hot(p).float() if not p.is_floating_point() else torch.cat([1 - p, p], 1), t[:, 0].long()))
            value = metric.compute()
            return value[1] if pick else value
        return call

    def kornia(p, t, ignore):
        from kornia.metrics import mean_iou
        return mean_iou(p[:, 0] if p.is_floating_point() else p[:, 0].long(), t[:, 0].long(), num_classes=2)[:, 1].mean()

    def surface_distance(a, b):
        import surface_distance as m
        return m.compute_dice_coefficient(b.astype(bool), a.astype(bool))

    yes, no = True, False  # has it an option to ignore a value?
    return [
        ('torchmetrics', 'functional.classification.binary_jaccard_index', 'one IoU of all pixels of the batch', yes, torchmetrics('binary_jaccard_index')),
        ('torchmetrics', 'functional.classification.binary_f1_score', 'one Dice of all pixels of the batch', yes, torchmetrics('binary_f1_score')),
        ('torchmetrics', 'segmentation.MeanIoU(num_classes=2)', 'each image and each class, background too; a class that is in neither mask is left out', no, torchmetrics_segmentation('MeanIoU')),
        ('torchmetrics', 'segmentation.MeanIoU(..., include_background=False)', 'each image; left out where both are empty', no, torchmetrics_segmentation('MeanIoU', include_background=False)),
        ('torchmetrics', 'segmentation.DiceScore(num_classes=2, include_background=False)', 'each image', no, torchmetrics_segmentation('DiceScore', include_background=False)),
        ('monai', 'metrics.DiceMetric()', 'each image; left out where the target is empty, a false alarm too', yes, monai('DiceMetric')),
        ('monai', 'metrics.DiceMetric(ignore_empty=False)', 'each image; both empty counts 1', yes, monai('DiceMetric', ignore_empty=False)),
        ('monai', 'metrics.MeanIoU()', 'each image; left out where the target is empty, a false alarm too', yes, monai('MeanIoU')),
        ('segmentation_models_pytorch', "metrics.iou_score(..., reduction='micro')", 'one IoU of all pixels', yes, smp('iou_score', reduction='micro')),
        ('segmentation_models_pytorch', "metrics.iou_score(..., reduction='micro-imagewise')", 'each image; both empty counts 1', yes, smp('iou_score', reduction='micro-imagewise')),
        ('segmentation_models_pytorch', "metrics.iou_score, mode='multiclass', 'micro-imagewise'", 'each image, the counts of pet and background added before dividing', yes, smp_classes),
        ('sklearn', 'metrics.jaccard_score', 'one IoU of all pixels', no, sklearn('jaccard_score')),
        ('sklearn', 'metrics.f1_score', 'one Dice of all pixels', no, sklearn('f1_score')),
        ('keras', 'metrics.BinaryIoU()', 'all pixels; mean of pet and background', no, keras('BinaryIoU')),
        ('keras', 'metrics.IoU(num_classes=2, target_class_ids=[1])', 'one IoU of all pixels', yes, keras('IoU', num_classes=2, target_class_ids=[1])),
        ('keras', 'metrics.MeanIoU(num_classes=2)', 'all pixels; mean of pet and background, a class in neither mask left out', yes, keras('MeanIoU', num_classes=2)),
        ('keras', 'metrics.F1Score(threshold=0.5)', 'one Dice of all pixels', no, keras_f1),
        ('medpy', 'metric.binary.jc, for each image', 'each image; both empty counts 1', no, medpy('jc')),
        ('medpy', 'metric.binary.dc, for each image', 'each image; both empty counts 1', no, medpy('dc')),
        ('scipy', '1 - spatial.distance.jaccard', 'one IoU of all pixels', no, scipy('jaccard')),
        ('scipy', '1 - spatial.distance.dice', 'one Dice of all pixels', no, scipy('dice')),
        ('SimpleITK', 'LabelOverlapMeasuresImageFilter.GetJaccardCoefficient(), for each image', 'each image, over all labels but 0', no, sitk('GetJaccardCoefficient')),
        ('SimpleITK', 'LabelOverlapMeasuresImageFilter.GetDiceCoefficient(), for each image', 'each image, over all labels but 0', no, sitk('GetDiceCoefficient')),
        ('SimpleITK', 'LabelOverlapMeasuresImageFilter.GetDiceCoefficient(1), for each image', 'each image, label 1', no, sitk('GetDiceCoefficient', 1)),
        ('pymia', 'evaluation.metric.JaccardCoefficient, for each image', 'each image', no, pymia('JaccardCoefficient')),
        ('pymia', 'evaluation.metric.DiceCoefficient, for each image', 'each image', no, pymia('DiceCoefficient')),
        ('ignite', 'metrics.IoU(cm)[1]', 'one IoU of all pixels', no, ignite('IoU', True)),
        ('ignite', 'metrics.mIoU(cm)', 'all pixels; mean of pet and background', no, ignite('mIoU', False)),
        ('ignite', 'metrics.DiceCoefficient(cm)[1]', 'one Dice of all pixels', no, ignite('DiceCoefficient', True)),
        ('kornia', 'metrics.mean_iou(..., num_classes=2)[:, 1].mean()', 'each image; both empty counts 1', no, kornia),
        ('surface_distance', 'compute_dice_coefficient, for each image', 'each image', no, arrays(surface_distance)),
    ]


def loss_rows() -> list:
    "Return the losses that have an `ignore_index` or a mask: import name, call, the function of (logits [B, 1, H, W], target [B, 1, H, W] with 255)."
    import torch

    def two(z): return torch.cat([torch.zeros_like(z), z], 1)  # the logits of background and pet

    def smp(name, **options):
        def call(z, t):
            import segmentation_models_pytorch.losses as m
            options_here = options | dict(ignore_index=IGNORE)
            return getattr(m, name)(**options_here)(z, t.float() if name == 'SoftBCEWithLogitsLoss' else t.long())
        return call

    def smp_soft_ce(z, t):
        import segmentation_models_pytorch.losses as m
        return m.SoftCrossEntropyLoss(smooth_factor=0., ignore_index=IGNORE)(two(z), t[:, 0].long())

    def kornia(name, *args, **options):
        def call(z, t):
            import kornia.losses as m
            binary = name.startswith('binary')
            return getattr(m, name)(z if binary else two(z), t.float() if binary else t[:, 0].long(), *args, ignore_index=IGNORE, **options)
        return call

    def keras(z, t):
        import keras.losses as m
        return m.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORE)(t[:, 0].long(), two(z).movedim(1, -1))

    def monai(name, *inner):
        def call(z, t):
            import monai.losses as m
            mask = (t != IGNORE).float()
            loss = m.MaskedLoss(m.DiceLoss(sigmoid=True)) if name == 'MaskedLoss' else getattr(m, name)(sigmoid=True)
            return loss(z, t.masked_fill(t == IGNORE, 0).float(), mask=mask)
        return call

    return [
        ('torch', 'nn.CrossEntropyLoss', lambda z, t: torch.nn.functional.cross_entropy(two(z), t[:, 0].long(), ignore_index=IGNORE)),
        ('keras', 'losses.SparseCategoricalCrossentropy(ignore_class=255)', keras),
        ('segmentation_models_pytorch', 'losses.SoftCrossEntropyLoss', smp_soft_ce),
        ('segmentation_models_pytorch', 'losses.SoftBCEWithLogitsLoss', smp('SoftBCEWithLogitsLoss')),
        ('segmentation_models_pytorch', "losses.FocalLoss('binary')", smp('FocalLoss', mode='binary')),
        ('segmentation_models_pytorch', "losses.DiceLoss('binary')", smp('DiceLoss', mode='binary')),
        ('segmentation_models_pytorch', "losses.TverskyLoss('binary')", smp('TverskyLoss', mode='binary')),
        ('segmentation_models_pytorch', "losses.LovaszLoss('binary')", smp('LovaszLoss', mode='binary')),
        ('kornia', 'losses.focal_loss(alpha=None)', kornia('focal_loss', None, reduction='mean')),
        ('kornia', 'losses.binary_focal_loss_with_logits(alpha=None)', kornia('binary_focal_loss_with_logits', None, reduction='mean')),
        ('kornia', 'losses.dice_loss', kornia('dice_loss')),
        ('kornia', 'losses.tversky_loss(alpha=0.5, beta=0.5)', kornia('tversky_loss', .5, .5)),
        ('monai', 'losses.MaskedDiceLoss(sigmoid=True)', monai('MaskedDiceLoss')),
        ('monai', 'losses.MaskedLoss(DiceLoss(sigmoid=True))', monai('MaskedLoss')),
    ]


def loss_cases() -> dict:  # name: (logits, target)
    "Return one picture, the same with as many ignored pixels beside it, and a false alarm on an empty target."
    import torch
    _, target, _ = cases()['normal']
    z = torch.linspace(-3, 3, 512).view(2, 1, 16, 16).flip(-1) + 2 * target.float() - 1
    beside = torch.full_like(target, IGNORE)
    alarm = torch.full((1, 1, 16, 16), 4.)
    return dict(counted=(z, target), half_ignored=(torch.cat([z, z], -1), torch.cat([target, beside], -1)), false_alarm=(alarm, torch.zeros_like(alarm).byte()))


# Measuring.

def number(f) -> float | str:
    "Return what `f` returns as a float, 'nan', 'inf' or '-inf'; the kind of error, if it raises."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: value = float(f())
        except Exception as error: return f'raises {type(error).__name__}'
    return value if math.isfinite(value) else str(value)


def measure_row(row, given: dict) -> dict:
    "Return one row of the first table: what the function says in every case, and which of the course's figures that is."
    from unet_course.losses import pixel_counts
    library, call, words, ignores, f = row
    values, same, with_pets = {}, None, None
    for name, (p, t, told) in given.items():
        values[name] = 'no such option' if told and not ignores else number(lambda: f(p, t, IGNORE if told else None))
        if name in ('normal', 'batch', 'real'):
            here = set(names_of(values[name], figures(pixel_counts(p, t))))
            same = here if same is None else same & here
            if name != 'batch': with_pets = here if with_pets is None else with_pets & here
    return dict(library=library, call=call, convention=words, equals=sorted(same), equals_unless_empty=sorted(with_pets - same), values=values)


def course_losses() -> dict:
    "Return the losses of chapter 03 that a library may mean, by name."
    from unet_course.losses import DiceLoss, WeightedBCE
    return {'WeightedBCE(1)': WeightedBCE(1.), 'DiceLoss(smooth=0)': DiceLoss(smooth=0), 'DiceLoss(smooth=0, per_image=True)': DiceLoss(smooth=0, per_image=True)}


def measure_loss(row) -> dict:
    "Return one row of the second table."
    library, call, f = row
    values = {name: number(lambda: f(z, t)) for name, (z, t) in loss_cases().items()}
    counted = loss_cases()['counted']
    equals = names_of(values['counted'], {name: loss(*counted).item() for name, loss in course_losses().items()})
    whole, half = values['counted'], values['half_ignored']
    z, t = loss_cases()['false_alarm']
    z.requires_grad_()
    def pull():
        f(z, t).backward()
        return z.grad.abs().sum()
    return dict(library=library, call=call, equals=equals, values=values | dict(false_alarm_gradient=number(pull)), ratio=half / whole if isinstance(whole, float) and isinstance(half, float) else None)


def measure(counts=None) -> dict:
    "Return both tables, of the libraries that can be imported here."
    import importlib.util
    os.environ.setdefault('KERAS_BACKEND', 'torch')
    sys.path.insert(0, str(ROOT))
    there = [name for name in PINNED if importlib.util.find_spec(name)]
    given = cases() | (dict(real=(*masks_of(counts), False)) if counts else {})
    return dict(versions={PINNED[name].split('==')[0]: importlib.metadata.version(PINNED[name].split('==')[0]) for name in there} | dict(numpy=importlib.metadata.version('numpy')),
                metrics=[measure_row(row, given) for row in rows() if row[0] in there], losses=[measure_loss(row) for row in loss_rows() if row[0] in there])


def measured_elsewhere(script: Path, pins: list, folder: Path | None, words: list) -> dict:
    "Return the JSON that `script --measure` prints in an environment of its own with the pinned packages; `folder` keeps it, None uses a temporary one."
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        python = folder / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
        if not python.exists():
            venv.create(folder, with_pip=True)
            subprocess.run([python, '-m', 'pip', 'install', '-q', *pins], check=True)
        done = subprocess.run([python, script, '--measure', *words], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


# The stored table.

def shown(value) -> str:
    "Return a value as it stands in the table."
    return '–' if value == 'no such option' else str(value) if isinstance(value, str) else f'{value:.4f}' if abs(value) < 1e6 else f'{value:.2g}'


def said(row) -> str:
    "Return which figure of the course a row is, in words."
    if row['equals'] or not row['equals_unless_empty']: return row['equals'][0] if row['equals'] else 'none of them'
    return row['equals_unless_empty'][0] + ', as long as no image is empty'


def table(found: dict) -> str:
    "Return both tables in Markdown."
    names = list(found['metrics'][0]['values'])
    lines = [f'Made by `tools/libraries.py` with {", ".join(f"{k} {v}" for k, v in found["versions"].items())}.', '',
             '| library | call | convention | equals | ' + ' | '.join(name.replace('_', ' ') for name in names) + ' |', '|' + ' --- |' * (4 + len(names))]
    lines += ['| ' + ' | '.join([r['library'], f'`{r["call"]}`', r['convention'], said(r), *(shown(r['values'][name]) for name in names)]) + ' |' for r in found['metrics']]
    lines += ['', '| library | loss | equals | counted pixels only | as many ignored beside them | ratio | false alarm | its gradient |', '|' + ' --- |' * 8]
    lines += ['| ' + ' | '.join([r['library'], f'`{r["call"]}`', ', '.join(f'`{name}`' for name in r['equals']) or 'none of them', *(shown(r['values'][k]) for k in ('counted', 'half_ignored')), shown(r['ratio']) if r['ratio'] else '–',
                                 *(shown(r['values'][k]) for k in ('false_alarm', 'false_alarm_gradient'))]) + ' |' for r in found['losses']]
    return '\n'.join(lines) + '\n'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--env', type=Path, help='folder of the environment; is made if it is not there (default: a temporary one)')
    parser.add_argument('--run', type=Path, help="a run's evaluation.npz, whose counts of the test split stand for the real masks (default: those that are stored)")
    parser.add_argument('--out', type=Path, default=ROOT / 'results')
    parser.add_argument('--measure', action='store_true', help='measure in this environment and print JSON')
    args = parser.parse_args()
    stored = args.out / 'libraries.json'
    if args.run:
        import numpy as np
        with np.load(args.run) as kept: real = dict(run='/'.join(args.run.resolve().parts[-4:-1]), counts=kept['test_counts'][::EVERY].tolist())
    else: real = json.loads(stored.read_text())['real'] if stored.is_file() else dict(run=None, counts=None)
    if args.measure: return print(json.dumps(measure(real['counts'])))
    found = measured_elsewhere(Path(__file__), list(PINNED.values()), args.env, ['--out', args.out, *(['--run', args.run] if args.run else [])]) | dict(real=real)
    if missing := set(PINNED) - {r['library'] for r in found['metrics'] + found['losses']}: sys.exit(f'{", ".join(sorted(missing))}: not installed in {args.env}; nothing was written')
    text = json.dumps(found | dict(real=None), indent=1).replace('"real": null', '"real": ' + json.dumps(real))
    stored.write_text(text + '\n', encoding='utf-8')
    (args.out / 'libraries.md').write_text(table(found), encoding='utf-8')
    print(table(found))


if __name__ == '__main__':
    main()
