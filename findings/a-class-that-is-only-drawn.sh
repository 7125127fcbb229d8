#!/usr/bin/env bash
# Matplotlib's imshow draws a class mask of two classes, 0 and 2 (of 0, 1, 2; 1 is often the border or "unsure").
# Expected: two colours, since no pixel is of class 1. Arrays of whole numbers have nothing between their values.
# Seen (matplotlib 3.11.2): it depends on the size of the axes. Where one pixel of the mask becomes 1 or 2 pixels of the figure, or 4 and more, there are two colours. At 1.5
# (and elsewhere up to 3) it smooths the colours: a rim of mixtures. At exactly 3 it smooths the class numbers before it colours them: values between 0 and 2, most of them shown in colours that are
# nearer to that of class 1 than to those of the two classes that are there. The default `interpolation='auto'` (formerly 'antialiased') is meant so, for pictures.
# Where it matters: figures of trimaps, semantic masks and predictions show a thin border class that nobody annotated or predicted, and another size of the same figure does not.
# interpolation='nearest' draws what is there.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q matplotlib==3.11.2 numpy==2.2.6
cd "$folder"
cat > test.py <<'PY'
import matplotlib
import numpy as np

matplotlib.use('agg')
import matplotlib.pyplot as plt

rows, columns = np.mgrid[:64, :64]
mask = np.where((columns - 32) ** 2 + (rows - 32) ** 2 < 20 ** 2, 2, 0)
colours = [np.rint(255 * np.array(matplotlib.colormaps['viridis'](share)[:3])) for share in (0., .5, 1.)]


def drawn(times, **how):
    "Pixels of the figure in none of the two colours, and those of them that are nearest to class 1."
    figure = plt.figure(figsize=(.64 * times, .64 * times), dpi=100)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.axis('off')
    axes.imshow(mask, cmap='viridis', vmin=0, vmax=2, **how)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    plt.close(figure)
    far = np.stack([abs(pixels - colour).max(-1) for colour in colours])
    other = np.minimum(far[0], far[2]) > 2
    return int(other.sum()), int((other & (far.argmin(0) == 1)).sum())


found = {times: drawn(times) for times in (1, 1.5, 2, 3, 4)}
print('matplotlib', matplotlib.__version__, '| classes in the mask:', np.unique(mask))
for times, (other, first) in found.items(): print(f'one pixel becomes {times}: {other} pixels in neither colour, {first} of them nearest to class 1')
assert [found[times] for times in (1, 2, 4)] == [(0, 0)] * 3 and found[1.5][0] > 300 and found[3][1] > 700
assert all(drawn(times, interpolation='nearest') == (0, 0) for times in found)
PY
"$folder/env/bin/python" test.py
