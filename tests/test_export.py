"""The export: ONNX files that compute what PyTorch computes, and the static folder of the playground."""
import ast
import configparser
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from unet_course.views import export, page
from unet_course.cli import main
from unet_course.data import PET
from unet_course.datasets.synthetic import draw_pet
from unet_course.experiments import FACTORIAL, NAMES
from unet_course.prediction import Segmenter, load_pretrained
from unet_course.support.files import package_folder
from unet_course.factory import count_macs, count_parameters, create_model
from unet_course.prediction import save_weights

MISSING = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f'{", ".join(MISSING)} missing (pip install ".[export]")')
SETTING = dict(variant='str_conv-ups-dice', data='synthetic', protocol='course', width=4, size=48, border='background', seed=3, recipe=dict(epochs=2), threshold=0.3)


def onnxruntime_session(path):
    import onnxruntime
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


def small_network():
    "A network whose weights need their 32 bits, with batch norm that does something."
    model = create_model(dict(base_width=4, depth=3, downsample_mode='str_conv', upsample_mode='ups'), seed=1)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(3): model(torch.rand(4, 3, 32, 32, generator=draws))
    return model.eval()


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path, model = tmp_path_factory.mktemp('run') / 'best.pth', small_network()
    save_weights(path, model.state_dict(), SETTING | dict(model=model.config))
    (path.parent / 'metrics.json').write_text(json.dumps(dict(test=dict(images=7, iou_threshold=.55, iou=.5, dice=.6, accuracy=.7))))
    return path


@pytest.fixture(scope='module')
def exported(weights, tmp_path_factory):
    return export.export_onnx(weights, tmp_path_factory.mktemp('models'), log=lambda line: None)


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop: main([str(w) for w in words])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


SIZES = ((1, 3, 48, 48), (5, 3, 48, 48), (2, 3, 33, 47), (1, 3, 128, 16), (1, 3, 1, 1), (3, 3, 100, 17))


@needs_onnx
@pytest.mark.parametrize('shape', SIZES, ids=str)
@pytest.mark.parametrize('gain', [(1., 1., 1.), (0., 0., 1.), (.3, 2., .5)], ids=str)
def test_the_file_computes_what_torch_computes_at_any_batch_and_size(exported, shape, gain):
    "The logits and every stage. Exported by an example that needs no padding, a graph would refuse the odd sizes."
    model, session = export.round_weights(small_network()), onnxruntime_session(exported)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))
    inside = export.Inside(model)
    assert inside.names == [output.name for output in session.get_outputs()] and {'logits', 'encoder1', 'bottleneck', 'decoder1', 'up1', 'conv1'} <= set(inside.names)
    with torch.inference_mode():
        wanted = inside(images, torch.tensor(gain))
        if set(gain) == {1.}: assert torch.equal(wanted[0], model(images))
    for ours, theirs in zip(wanted, session.run(inside.names, {'images': images.numpy(), 'skip_gain': np.float32(gain)})):
        assert theirs.shape == tuple(ours.shape) and np.abs(ours.numpy() - theirs).max() < export.TOLERANCE


@needs_onnx
def test_the_stages_cost_few_bytes(exported, monkeypatch):
    "At most 5 KB over a file with logits alone."
    import onnx
    model = export.round_weights(small_network())
    monkeypatch.setattr(export.Inside, '__init__', lambda self, model: (torch.nn.Module.__init__(self), setattr(self, 'model', model), setattr(self, 'names', ['logits']))[0])
    plain = export.halve(export.to_onnx(model))
    full = onnx.load(exported)
    del full.metadata_props[:]
    print(f'{full.ByteSize() - plain.ByteSize()} bytes for the stages')
    assert 0 < full.ByteSize() - plain.ByteSize() <= 5000


@needs_onnx
def test_the_file_is_short_and_says_what_it_is(exported):
    import onnx
    graph = onnx.load(exported)
    onnx.checker.check_model(graph, full_check=True)
    kinds = {t.data_type for t in graph.graph.initializer if len(t.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16} and exported.stat().st_size < 2.4 * count_parameters(small_network()) + 40_000
    said = {entry.key: entry.value for entry in graph.metadata_props}
    assert said['variant'] == exported.stem == 'str_conv-ups-dice' and said['protocol'] == 'course' and said['size'] == '48' and said['precision'] == 'fp16' and said['licence'] == 'Apache-2.0'
    assert '48x48' in said['normalisation'] and '255' in said['normalisation'] and 'any size' in said['input'] and 'skip_gain' in said['input'] and len(said['weights']) == 64 and json.loads(said['test'])['images'] == 7
    assert int(said['parameters']) == count_parameters(small_network()) and int(said['macs']) == count_macs(small_network(), 48)
    assert not re.search(rb'/home/|/root/|/work|/tmp/|site-packages|\.py\b', exported.read_bytes()), 'no file names of the machine it was made on'


@needs_onnx
def test_full_precision_keeps_every_number(weights, tmp_path):
    said = []
    path = export.export_onnx(weights, tmp_path, 'fp32', log=said.append)
    images = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(): wanted = small_network()(images).numpy()
    assert np.abs(onnxruntime_session(path).run(['logits'], {'images': images.numpy(), 'skip_gain': np.ones(3, np.float32)})[0] - wanted).max() < 1e-5
    assert 'rounded' not in said[0]


@pytest.mark.parametrize('variant', FACTORIAL, ids=lambda v: v.id)
def test_rounding_leaves_the_package_weights_as_they_are(variant):
    model = load_pretrained(variant.down, variant.up, variant.loss).model
    rounded = export.round_weights(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), rounded.state_dict().values()))


def test_rounding_refuses_what_16_bits_cannot_hold():
    model = small_network()
    with torch.no_grad(): model.head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match='too large for 16 bits.*fp32'): export.round_weights(model)
    assert model.head.weight[0, 0] == 1e6, 'the given network is left alone'


@needs_onnx
def test_a_graph_that_differs_is_not_written(exported, weights, tmp_path, monkeypatch):
    import onnx
    other = small_network()
    with torch.no_grad(): other.head.bias += 3 * export.TOLERANCE
    with pytest.raises(ValueError, match='differs from PyTorch by 0.0003'): export.check_onnx(exported.read_bytes(), export.round_weights(other), 48)
    wrong = onnx.load(exported)
    bias = next(t for t in wrong.graph.initializer if t.name.endswith('head.bias'))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1, bias.name))
    monkeypatch.setattr(export, 'to_onnx', lambda model: wrong)
    monkeypatch.setattr(export, 'halve', lambda graph: graph)
    with pytest.raises(ValueError, match='nothing was written'): export.export_onnx(weights, tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


@needs_onnx
def test_a_network_trained_at_any_size_is_exported(tmp_path):
    model = small_network()
    save_weights(tmp_path / 'best.pth', model.state_dict(), SETTING | dict(model=model.config, size=100))
    assert onnxruntime_session(export.export_onnx(tmp_path / 'best.pth', tmp_path, log=lambda line: None))


@needs_onnx
def test_a_file_of_another_network_is_kept_and_one_of_the_same_is_made_anew(capsys, tmp_path, weights):
    target = export.export_onnx(weights, tmp_path, log=lambda line: None)
    export.export_onnx(weights, tmp_path, 'fp32', log=lambda line: None)  # the same network, stored otherwise
    whole = target.read_bytes()
    other = small_network()
    with torch.no_grad(): other.head.bias += 1
    save_weights(tmp_path / 'best.pth', other.state_dict(), SETTING | dict(model=other.config, seed=4))
    for words in (['--format', 'onnx', '--out', tmp_path], ['--format', 'onnx', '--precision', 'fp32', '--out', tmp_path]):
        code, _, err = call(capsys, 'export', tmp_path / 'best.pth', *words)
        assert code == 2 and err.count('\n') == 1 and 'str_conv-ups-dice.onnx holds another network' in err and 'seed 3' in err and '--out' in err and target.read_bytes() == whole
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x/str_conv-ups-dice.onnx').write_text('somebody\'s own')
    code, _, err = call(capsys, 'export', weights, '--out', tmp_path / 'x')
    assert code == 2 and 'it does not say which' in err and (tmp_path / 'x/str_conv-ups-dice.onnx').read_text() == 'somebody\'s own'


@needs_onnx
@pytest.mark.parametrize('words, said', [
    (['exp9'], 'use exp1 to exp4'), (['experiments'], 'one variant'), (['str_conv_bn-tr-bce'], 'no trained weights of str_conv_bn-tr-bce'), (['none.pth'], 'none.pth: no such weights file'),
    ([ROOT / 'settings.ini'], 'not a weights file'), ([], '--all'), (['exp1', '--all'], '--all'), (['exp1', '--format', 'tflite'], 'tflite'), (['exp1', '--runtime', '.'], '--format playground'),
    (['exp1', '--format', 'playground', '--runtime', '.'], 'onnxruntime-web'),
], ids=lambda x: None)
def test_errors_are_one_line_and_leave_nothing(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, 'export', *words, '--out', 'new')
    assert code == 2 and err.count('\n') == 1 and 'error:' in err and said in err
    assert not list(tmp_path.rglob('*.onnx'))


def test_missing_libraries_are_named_with_the_command_that_installs_them(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'find_spec', lambda name: None if name.startswith('onnx') else 'found')
    code, _, err = call(capsys, 'export', 'exp1', '--out', tmp_path)
    assert code == 2 and err.count('\n') == 1 and 'pip install "unet_course[export]"' in err and 'onnxscript' in err


def test_two_networks_of_one_name_are_refused_before_anything_is_written(capsys, tmp_path, weights):
    (tmp_path / 'a').mkdir()
    shutil.copyfile(weights, tmp_path / 'a/best.pth')
    for words in (['--out', tmp_path / 'out'], ['--format', 'playground', '--out', tmp_path / 'out']):
        code, _, err = call(capsys, 'export', weights, tmp_path / 'a/best.pth', *words)
        assert code == 2 and 'would be written 2 times' in err and not (tmp_path / 'out').exists()


def test_a_name_is_never_a_path(tmp_path):
    model = small_network()
    save_weights(tmp_path / 'best.pth', model.state_dict(), SETTING | dict(model=model.config, variant='../../elsewhere'))
    assert export.name_of(tmp_path / 'best.pth') == 'elsewhere'


@pytest.mark.parametrize('said', [dict(data='cats'), dict(recipe='mine'), dict(data=None, recipe=dict(epochs=3)), dict(variant=7)])
def test_weights_that_say_little_are_described_by_what_they_say(said):
    config = {key: value for key, value in (SETTING | said).items() if value is not None}
    row = export.describe_model(Segmenter(small_network(), 48, config=config))
    known = config.get('data') == 'synthetic'
    assert ('licence' in row) == ('credit' in row) == known and row['size'] == '48'
    assert ('setting' in row) == (said == dict(variant=7)) and ('variant' in row) == (said != dict(variant=7))


def test_the_setting_says_the_recipe_that_was_trained_with():
    "Not the one that the protocol has today: of one's own pictures it is another."
    from dataclasses import asdict
    from unet_course.experiments import OWN_PICTURES
    config = SETTING | dict(data='folder_cells', protocol='course', recipe=asdict(OWN_PICTURES) | dict(epochs=3, lr=.001))
    said = export.describe_model(Segmenter(small_network(), 48, config=config))['setting']
    assert 'lr 0.001' in said and 'muon' not in said and '3 epochs' in said


def test_the_setting_names_an_unusual_batch():
    config = SETTING | dict(recipe=dict(epochs=2, batch_size=4))
    assert 'batch size 4' in export.describe_model(Segmenter(small_network(), 48, config=config))['setting']


@pytest.mark.parametrize('text', ['[1, 2]', '{"test": 5}', '{"test": {"iou": 0.5}}', '{"test": {"images": "7", "iou": 1, "dice": 1, "accuracy": 1}}'])
def test_figures_that_are_none_are_refused_with_their_file(tmp_path, text):
    (tmp_path / 'metrics.json').write_text(text)
    with pytest.raises(ValueError, match='metrics.json: not the figures of a run'): export.test_figures(tmp_path / 'best.pth', None)


def test_the_card_is_found_by_a_relative_path_too(monkeypatch):
    monkeypatch.chdir(package_folder())
    found = export.test_figures(Path('weights/mp-tr-dice.pth'), 'mp-tr-dice')
    assert found == export.test_figures(package_folder() / 'weights/mp-tr-dice.pth', 'mp-tr-dice') and found['images'] == 3669


def test_names_that_differ_in_case_only_are_twins(tmp_path):
    model = small_network()
    config = {key: value for key, value in SETTING.items() if key != 'variant'} | dict(model=model.config)
    for name in ('Best.pth', 'best.pth'): save_weights(tmp_path / name, model.state_dict(), config)
    with pytest.raises(ValueError, match='would be written 2 times'): export.refuse_twins([tmp_path / 'Best.pth', tmp_path / 'best.pth'])


@needs_onnx
def test_a_runtime_that_lies_in_the_folder_already_is_left_there(tmp_path, weights, monkeypatch):
    files = page.runtime_files() | dict(wasm=[dict(file='a.mjs', bytes=1, integrity=page.integrity(b'a'))], webgpu=[])
    monkeypatch.setattr(page, 'runtime_files', lambda: files)
    (tmp_path / 'page/runtime').mkdir(parents=True)
    (tmp_path / 'page/runtime/a.mjs').write_bytes(b'a')
    named, said = tmp_path / 'net#1.pth', []
    model = small_network()
    save_weights(named, model.state_dict(), {key: value for key, value in SETTING.items() if key not in ('variant', 'data')} | dict(model=model.config))
    page.write_playground([named], tmp_path / 'page', tmp_path / 'page/runtime', log=said.append)
    assert (tmp_path / 'page/runtime/a.mjs').read_bytes() == b'a' and f'--directory "{tmp_path / "page"}"' in said[-1]
    manifest = json.loads((tmp_path / 'page/manifest.json').read_text(encoding='utf-8'))
    assert manifest['models']['net#1']['file'] == 'models/net%231.onnx' and (tmp_path / 'page/models/net#1.onnx').is_file()
    assert 'Networks:' not in (tmp_path / 'page/index.html').read_text(encoding='utf-8')  # nobody said what they were trained on


def test_where_a_source_leads(tmp_path):
    assert export.find_weights('exp2') == export.find_weights('mp-tr-dice') == package_folder() / 'weights/mp-tr-dice.pth'
    assert export.find_weights(tmp_path / 'best.pth') == tmp_path / 'best.pth'


@pytest.fixture(scope='module')
def folder(weights, tmp_path_factory):
    if MISSING: pytest.skip(f'{", ".join(MISSING)} missing')
    return page.write_playground([weights], tmp_path_factory.mktemp('playground') / 'page', log=lambda line: None)


def test_the_static_folder_is_complete_and_hashed(folder):
    manifest = json.loads((folder / 'manifest.json').read_text(encoding='utf-8'))
    row = manifest['models']['str_conv-ups-dice']
    data = (folder / row['file']).read_bytes()
    assert len(data) == row['bytes'] and page.integrity(data) == row['integrity']
    assert row['size'] == 48 and row['test']['images'] == 7 and row['threshold'] == .3 and row['licence'] == 'Apache-2.0' and 'pets' in row['setting']
    assert manifest['runtime']['base'].startswith('https://') and manifest['runtime']['version'] in manifest['runtime']['base']
    assert row['depth'] == 3 and json.loads((folder / 'inside.json').read_text())['networks'] == {}, 'a network of one\'s own has no readouts'
    for sample in manifest['samples']:
        with Image.open(folder / sample['file']) as image: assert max(image.size) <= 720 and sample['title'] and sample['credit']
        if 'truth' in sample:
            i = int(re.search(r'\d+', sample['name'])[0])
            assert (np.array(Image.open(folder / sample['truth'])) == (draw_pet(0, i, 384)[1] == PET)).all()
    text = (folder / 'index.html').read_text(encoding='utf-8')
    assert '{' not in re.sub(r'<style.*?</style>', '', text, flags=re.S) and 'CC0' in text and all(word in text for word in ('Stéfan van der Walt', 'Rachel Michetti'))


class Markup(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ('input', 'link', 'meta'): self.open.append(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag


def test_the_markup_is_closed_and_labelled():
    text = (ROOT / 'nbs/playground/playground.html.in').read_text(encoding='utf-8')
    around, inside = Markup(text), Markup(re.search(r'<script type="text/html" class="pg-markup">(.*?)</script>', text, re.S)[1])
    assert around.open == inside.open == [] and len(inside.seen) > 50
    for tag, attrs in around.seen + inside.seen:
        if tag == 'button': assert attrs['type'] == 'button'
        if attrs.get('role') in ('group', 'radiogroup') or tag in ('dialog', 'video'): assert attrs['aria-label']


def test_without_scripts_the_playground_is_a_sentence_with_a_link():
    "An untrusted notebook in JupyterLab loses scripts and their contents, and the attribute `hidden`: no dead button may be left over."
    text = (ROOT / 'nbs/playground/playground.html.in').read_text(encoding='utf-8')
    left = Markup(re.sub(r'<script.*?</script>|\bhidden\b', '', text, flags=re.S))
    assert [tag for tag, _ in left.seen] == ['div', 'p', 'a', 'link']
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    site = settings['DEFAULT']
    assert left.seen[2][1]['href'] == f'{site["doc_host"]}{site["doc_baseurl"]}/nbs/playground.html'


def test_the_notebook_shows_the_markup_as_it_is():
    nb = json.loads((ROOT / 'nbs/playground.ipynb').read_text(encoding='utf-8'))
    shown, = (''.join(o['data']['text/html']) for c in nb['cells'] if c['cell_type'] == 'code' for o in c['outputs'] if 'class="playground"' in ''.join(o.get('data', {}).get('text/html', '')))
    wanted = (ROOT / 'nbs/playground/playground.html.in').read_text(encoding='utf-8').replace('{base}', 'playground/live/').replace('{assets}', 'playground/')
    assert shown.strip() == wanted.strip(), 'run python tools/notebooks.py nbs/playground.ipynb'


def test_the_script_knows_the_factorial_and_no_address():
    script = (ROOT / 'nbs/playground/playground.js').read_text(encoding='utf-8')
    block = re.search(r'const FACTORS = \{(.*?)\n\};', script, re.S)[1]
    levels = {factor: re.findall(r"(\w+): '", text) for factor, text in re.findall(r'(\w+): \{(.*?)\}', block)}
    assert [f'{d}-{u}-{l}' for d in levels['down'] for u in levels['up'] for l in levels['loss']] == [v.id for v in FACTORIAL]
    assert all(name in NAMES for names in levels.values() for name in names)
    assert not re.search(r'https?:|wss?:|//[a-z]+\.[a-z]', script), 'what it loads comes from the manifest'
    assert not re.search(r'sendBeacon|XMLHttpRequest|WebSocket|method:', script), 'nothing is sent'


def test_the_runtime_is_pinned():
    RUNTIME = page.runtime_files()
    version = RUNTIME['version']
    assert re.fullmatch(r'\d+\.\d+\.\d+', version) and f'@{version}/' in RUNTIME['base']
    for name in ('wasm', 'webgpu'):
        code, binary = RUNTIME[name]
        assert code['file'].endswith('.mjs') and binary['file'].endswith('.wasm')
        assert all(re.fullmatch(r'sha384-[A-Za-z0-9+/]{64}', part['integrity']) and part['bytes'] > 1000 for part in (code, binary))
    runtime = ROOT / '_runtime'
    if not runtime.is_dir(): pytest.skip('no _runtime (python tools/get_runtime.py): the hashes are not compared')
    for part in (*RUNTIME['wasm'], *RUNTIME['webgpu']):
        data = (runtime / part['file']).read_bytes()
        assert len(data) == part['bytes'] and page.integrity(data) == part['integrity']


def test_importing_the_export_needs_no_extra():
    tree = ast.parse((package_folder() / 'views/export.py').read_text(encoding='utf-8'))
    names = [n.name for node in tree.body if isinstance(node, ast.Import) for n in node.names] + [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name and name.startswith('onnx')]


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize('variant', FACTORIAL[::7], ids=lambda v: v.id)
def test_a_shipped_network_agrees_as_it_is(variant):
    "Logits and every stage within 1e-4, whatever their size, for gains of ones and mixed ones."
    segmenter = load_pretrained(variant.down, variant.up, variant.loss)
    session = onnxruntime_session(export.halve(export.to_onnx(segmenter.model)).SerializeToString())
    images, inside = segmenter.square(ROOT / 'nbs/playground/chelsea.jpg'), export.Inside(segmenter.model)
    for gain in ((1., 1., 1., 1.), (0., .3, 1., 2.)):
        with torch.inference_mode(): wanted = inside(images, torch.tensor(gain))
        found = session.run(inside.names, {'images': images.numpy(), 'skip_gain': np.float32(gain)})
        worst = {name: np.abs(ours.numpy() - theirs).max() for name, ours, theirs in zip(inside.names, wanted, found)}
        print(variant.id, {name: f'{value:.0e}' for name, value in worst.items()})
        assert max(worst.values()) < export.TOLERANCE, worst
