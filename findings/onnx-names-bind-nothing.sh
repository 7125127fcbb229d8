#!/usr/bin/env bash
# A graph takes a picture and a mask of weights, both declared [n, 1, h, w] with the same names. It is fed a picture of 4 x 4 and weights of 1 x 4.
# Expected: an error: h cannot be 4 and 1.
# Seen (onnxruntime 1.32.0, onnx 1.23.2): no error and no warning. The names bind nothing between inputs; the product broadcasts the one row over the picture.
# Where it matters: networks with two inputs (a picture and its valid region, or a prompt). A mask of the wrong size, if it can broadcast, gives a plausible result. Compare the shapes before the call.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q onnxruntime==1.32.0 onnx==1.23.2 "numpy>=2.2,<2.5"
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

def value(name): return helper.make_tensor_value_info(name, TensorProto.FLOAT, ['n', 1, 'h', 'w'])
graph = helper.make_graph([helper.make_node('Mul', ['picture', 'weights'], ['weighted'])], 'weighting', [value('picture'), value('weights')], [value('weighted')])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
print('declared:', [(i.name, i.shape) for i in session.get_inputs()])
result = session.run(None, dict(picture=np.ones((1, 1, 4, 4), np.float32), weights=np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)))[0]
print('result:', result.shape, result[0, 0, 3])
assert result.shape == (1, 1, 4, 4) and result[0, 0, 3].tolist() == [0, 1, 2, 3]
PY
