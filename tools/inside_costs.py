"""Measure what the views of the inside cost, beside their targets (exit code 1 if one is missed).

    python tools/get_runtime.py && python tools/inside_costs.py [--rounds 15]

Plain passes and what is compared with them alternate, and the ratio is taken pair by pair; shown is the median with its quartiles. In the kernel it is
processor time of one thread, which other work on the machine does not lengthen; so is the first painting in the browser. For the rest of the browser there
is only the clock: run it on a quiet machine.
"""
import argparse
import contextlib
import functools
import http.server
import io
import shutil
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.prediction import Segmenter, load_pretrained, predict  # noqa: E402
from unet_course.support.files import package_folder, read_json  # noqa: E402
from unet_course.views.album import explorer_pictures  # noqa: E402
from unet_course.views.export import halve, round_weights, to_onnx  # noqa: E402
from unet_course.views.inside import Gained, stages  # noqa: E402
from unet_course.views.page import write_playground  # noqa: E402
from unet_course.views.panels import explorer_panel, known_networks, loupe_view, readout_view  # noqa: E402

NETS = ['mp-tr-bce', 'mp-ups-bce']
PANEL = "document.querySelector('.playground').playground.inside"
missed = []


def report(what: str, values, target: float, unit: str = ''):
    "Print the median, its quartiles and the target; remember what misses it."
    low, middle, high = np.percentile(values, (25, 50, 75))
    form = '.2f' if unit == 'times' else ',.0f'
    spread = f' ({low:{form}} to {high:{form}})' if len(values) > 1 else ''
    print(f'{what:78} {middle:{form}}{spread} {unit}; target {target:{form}}{"" if middle <= target else "  MISSED"}', flush=True)
    if middle > target: missed.append(what)


def plain_bytes(model) -> int:
    "Return the bytes of the network's graph without stages and gains, made as `to_onnx` makes it."
    tile, sides = 2 ** model.config['depth'], {}
    for axis, name in ((0, 'batch'), (2, 'height'), (3, 'width')): sides[axis] = torch.export.Dim(name, min=1, max=16384) if axis else torch.export.Dim(name)
    with warnings.catch_warnings(action='ignore'), contextlib.redirect_stdout(io.StringIO()):
        graph = torch.onnx.export(model, (torch.zeros(2, 3, 2 * tile + 1, 3 * tile - 1),), dynamo=True, optimize=False, verbose=False, dynamic_shapes=dict(images=sides),
                                  opset_version=18, input_names=['images'], output_names=['logits']).model_proto
    graph.graph.ClearField('value_info')
    for part in (*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        part.ClearField('metadata_props')
        part.doc_string = ''
    return len(halve(graph).SerializeToString())


def sizes():
    model = round_weights(load_pretrained(*NETS[0].split('-')).model)
    report(f'bytes that stages and gains add to {NETS[0]}', [len(halve(to_onnx(model)).SerializeToString()) - plain_bytes(model)], 5000, 'bytes')
    rows = read_json(package_folder() / 'weights/inside.json')['networks'].values()
    report('bytes of the readouts of all networks (weights, scales, biases)', [sum(len(row['readout']['weights']) + 16 * len(row['readout']['scale']) for row in rows)], 10_000, 'bytes')


def kernel(rounds: int):
    torch.set_num_threads(1)
    nets, picture = {name: load_pretrained(*name.split('-')) for name in NETS}, next(iter(explorer_pictures(n=1)['Synthetic pets'].values()))()
    gained = {name: Segmenter(Gained(one.model, (1, 0, 1, 1)), one.size) for name, one in nets.items()}
    squares, known = {name: one.square(picture.image) for name, one in nets.items()}, known_networks(nets)
    def plain(): return [one.model(squares[name]) for name, one in nets.items()]
    def inside(): return {name: stages(one.model, squares[name]) for name, one in nets.items()}
    def switch(): return explorer_panel(picture, {name: predict(one, picture.image) for name, one in gained.items()})
    seen = inside()
    pixels = (255 * squares[NETS[0]][0].permute(1, 2, 0)).round().byte().numpy()
    compared = {'an open panel: a pass with every stage': (inside, 1.15), 'from switch to new mask, with the drawing': (switch, 2.2)}
    times = {name: [] for name in ['plain', *compared, 'loupe', 'readouts']}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, action in {'plain': plain, **{name: action for name, (action, _) in compared.items()}, 'loupe': lambda: loupe_view(seen, pixels, 30, 30), 'readouts': lambda: readout_view(seen, known)}.items():
                start = time.process_time()
                action()
                times[name].append(time.process_time() - start)
    times = {name: np.array(list[1:]) for name, list in times.items()}
    print(f'kernel, two networks of {nets[NETS[0]].size} px, one thread: a plain pass takes {1000 * np.median(times["plain"]):.0f} ms')
    for name, (_, target) in compared.items(): report(f'kernel, {name}', times[name] / times['plain'], target, 'times')
    for name in ('loupe', 'readouts'): report(f'kernel, painting the {name}', 1000 * times[name], 20, 'ms')


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


HELD = '''() => { const P = document.querySelector('.playground').playground, real = P.looking.bind(P);
  P.looking = () => { const panel = real(); return panel && {view: panel.view, gain: () => panel.gain(), wanted: () => panel.wanted(), draw() { window.held = true; }}; };
  window.paint = () => { P.looking = real; P.inside.draw(); }; }'''


def first_painting(page) -> float:
    "Open the loupe over two networks, painting held back, then paint; milliseconds of the page's main thread, with the call itself and the layout."
    clock = page.context.new_cdp_session(page)
    clock.send('Performance.enable', dict(timeDomain='threadTicks'))
    def busy(): return next(row['value'] for row in clock.send('Performance.getMetrics')['metrics'] if row['name'] == 'TaskDuration')
    page.wait_for_function(f'{PANEL}')
    page.evaluate(HELD)
    page.get_by_role('button', name='Run the network').click()
    page.wait_for_function("window.held && document.querySelector('.playground').playground.state.results.b?.mask")
    before = busy()
    page.evaluate('window.paint()')
    taken = 1000 * (busy() - before)
    assert page.locator('.pg-inside-view figure').count() == 10
    return taken


RUNS = '''async rounds => {
  const P = document.querySelector('.playground').playground, {networks, state, manifest, inside} = P, name = state.variants.a, {size, depth} = manifest.models[name];
  const x = new Float32Array(3 * size * size).map(() => Math.random()), all = {plain: [], loupe: [], readouts: [], switched: [], painted: {}};
  const pass = async more => (await networks.run(name, state.backend, x, undefined, more)).milliseconds;
  for (let i = 0; i < rounds; i++) {
    all.plain.push(await pass());
    all.loupe.push(await pass(['up1', 'conv1', 'decoder1']));
    inside.choose('readouts', false);
    all.readouts.push(await pass(inside.wanted()));
    inside.choose('skips', false);
    inside.gains = Array.from({length: depth}, (_, k) => (k + i) % 2);
    const start = performance.now();
    await P.update();
    all.switched.push(performance.now() - start);
  }
  for (const view of ['loupe', 'readouts']) {
    inside.choose(view, false);
    await P.update();
    all.painted[view] = [];
    for (let i = 0; i < rounds; i++) { inside.row = i; inside.draw(); all.painted[view].push(inside.painted); }
  }
  return all; }'''


def browser(rounds: int):
    from playwright.sync_api import sync_playwright
    chromium = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome') or sys.exit('no chromium')
    with tempfile.TemporaryDirectory() as folder:
        write_playground(NETS, Path(folder), ROOT / '_runtime', log=lambda line: None)
        stored = sum(path.stat().st_size for path in Path(folder, 'samples').glob('*-all.png'))
        fresh = sum(path.stat().st_size for path in Path(folder, 'samples').glob('*-untrained.png'))
        print(f'bytes of the untrained loupe on the samples: {fresh:,} for {len(NETS)} networks, each picture fetched when it is asked for')
        report(f'bytes of the masks of {len(NETS)} networks on the samples, for eight', [stored * 8 / len(NETS)], 52_000, 'bytes')
        with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=folder)) as server, sync_playwright() as playwright:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            opened = playwright.chromium.launch(executable_path=chromium, args=['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'])
            first, address = [], f'http://127.0.0.1:{server.server_port}/index.html#down=mp&up=tr&loss=bce&b='
            for _ in range(5):  # a page's first drawing is the one that is not compiled yet
                page = opened.new_page()
                page.set_default_timeout(120_000)
                page.goto(address + 'mp-ups-bce&view=loupe')
                first.append(first_painting(page))
                page.close()
            report('page, first painting of the loupe over two networks, processor time', first, 20, 'ms')
            page = opened.new_page()
            page.set_default_timeout(300_000)
            asked = []
            page.on('request', lambda request: asked.append(request.url))
            page.goto(address)
            page.get_by_role('button', name='Run the network').click()
            page.wait_for_function("document.querySelector('.playground').playground.state.results.a?.mask")
            report('page, closed panel: files asked for and stages computed', [sum('inside' in url for url in asked) + page.evaluate("Object.keys(document.querySelector('.playground').playground.state.results.a.stages).length")], 0)
            page.locator('.pg-inside summary').click()
            page.wait_for_function('document.querySelectorAll(".pg-inside-view figure").length === 5')
            times = page.evaluate(RUNS, rounds)
            plain = np.array(times['plain'])
            print(f'page, WebAssembly, one thread: a plain pass takes {np.median(plain):.0f} ms')
            for name, what, target in (('loupe', 'an open panel: a pass with the loupe', 1.15), ('readouts', 'an open panel: a pass with every stage', 1.15), ('switched', 'from switch to new mask, with the drawing', 2.2)):
                report(f'page, {what}', np.array(times[name]) / plain, target, 'times')
            for view, values in times['painted'].items(): report(f'page, painting the {view} again', values, 20, 'ms')
            opened.close()
            server.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15, help='pairs of passes, default 15')
    parser.add_argument('--only', choices=('sizes', 'kernel', 'browser'))
    args = parser.parse_args()
    if args.only in (None, 'sizes'): sizes()
    if args.only in (None, 'kernel'): kernel(args.rounds)
    if args.only in (None, 'browser'): browser(args.rounds)
    sys.exit(f'missed: {"; ".join(missed)}' if missed else 0)


if __name__ == '__main__':
    main()
