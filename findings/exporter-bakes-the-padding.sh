#!/usr/bin/env bash
# A network pads its input to a multiple of 4 by `if bottom or right:`. It is exported to ONNX with height and width declared free, from two example sizes.
# Expected: the exporter refuses (the condition depends on a size that is said to be free), or the file takes every size either way.
# Seen (torch 2.14.1, onnxruntime 1.32.0): both exports succeed and declare free sizes. From an example of 5 x 7 the padding is in the file and every size is right. From 8 x 12 the
# branch that pads is left out without a word: the file runs multiples of 4 only, and fails on 5 x 7 inside a concatenation.
# Where it matters: segmentation networks with skip connections that pad inside. Export from a size that needs the padding, and run the file at other sizes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import contextlib
import io
import warnings

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

warnings.simplefilter('ignore')
onnxruntime.set_default_logger_severity(4)

class Hourglass(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        height, width = x.shape[-2:]
        bottom, right = -height % 4, -width % 4
        if bottom or right: x = F.pad(x, (0, right, 0, bottom), mode='replicate')
        fine = self.first(x)
        coarse = F.max_pool2d(F.max_pool2d(fine, 2), 2)
        return self.last(torch.cat([fine, F.interpolate(coarse, scale_factor=4.)], 1))[..., :height, :width]

torch.manual_seed(0)
model, found = Hourglass().eval(), {}
for example in ((5, 7), (8, 12)):
    free = {2: torch.export.Dim('h', min=1, max=512), 3: torch.export.Dim('w', min=1, max=512)}
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(model, (torch.zeros(1, 1, *example),), dynamo=True, dynamic_shapes=dict(x=free), verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=['CPUExecutionProvider'])
    for size in ((5, 7), (8, 12), (6, 8), (16, 4)):
        picture = torch.rand(1, 1, *size)
        try: result = session.run(None, {session.get_inputs()[0].name: picture.numpy()})[0]
        except Exception as error: found[example, size] = type(error).__name__
        else: found[example, size] = bool(result.shape[-2:] == size and np.allclose(result, model(picture).detach().numpy(), atol=1e-5))
    print('from', example, '->', session.get_inputs()[0].shape, {size: found[example, size] for size in ((5, 7), (8, 12), (6, 8), (16, 4))})
assert all(found[(5, 7), size] is True for size in ((5, 7), (8, 12), (6, 8), (16, 4)))
assert all(found[(8, 12), size] is True for size in ((8, 12), (16, 4))) and not any(found[(8, 12), size] is True for size in ((5, 7), (6, 8)))
PY
