"""Chapter 02 and the explorer in a real browser: the widgets in JupyterLab with a kernel, the twin of 02 as static files without one.

    pytest -m browser

It needs Playwright for Python and a chromium, here Debian's (apt-get install chromium). Set SCREENSHOTS to a folder to keep pictures of what was seen."""
import base64
import contextlib
import functools
import http.server
import importlib.util
import io
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from conftest import ROOT

CHROMIUM = next((path for path in ('/usr/bin/chromium', shutil.which('chromium'), shutil.which('chromium-browser'), shutil.which('google-chrome')) if path and Path(path).exists()), None)
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
MISSING = 'no chromium (apt-get install chromium)' if CHROMIUM is None else 'no playwright (pip install playwright)' if importlib.util.find_spec('playwright') is None else \
          'no jupyterlab' if importlib.util.find_spec('jupyterlab') is None else None
WAIT = int(os.environ.get("BROWSER_WAIT", 600)) * 1000  # milliseconds for a whole chapter on a busy machine
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200 + 3 * WAIT // 1000), pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
DOWN, UP, LOSS = ('mp', 'str_conv'), ('tr', 'ups'), ('bce', 'dice')


@pytest.fixture(scope='module')
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, request):
    opened = browser.new_page(viewport=dict(width=1500, height=1000))
    opened.set_default_timeout(180_000)
    yield opened
    keep_screenshot(opened, f'end_{request.node.name}')
    opened.close()


def free_port() -> int:
    with contextlib.closing(socket.socket()) as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "JupyterLab on loopback over copies of the two chapters, small configuration, with no settings but its own; the address of a notebook by name."
    folder, port, token = tmp_path_factory.mktemp('lab'), free_port(), secrets.token_hex(16)
    notebooks = folder / 'notebooks'
    notebooks.mkdir()
    explorer, drawing = 'from unet_course import explore\nexplore()', 'from unet_course.views.architecture import architecture_explorer\narchitecture_explorer()'
    def busy(name): return f"import time\nfrom pathlib import Path\nwhile not Path('{name}').exists(): time.sleep(.05)"  # until the test says that it has looked
    chapter = json.loads((ROOT / 'nbs/02_factory.ipynb').read_text(encoding='utf-8'))
    for cell in chapter['cells']: cell.update(outputs=[]) if cell['cell_type'] == 'code' else None  # what is seen was made by this kernel
    (notebooks / '02_factory.ipynb').write_text(json.dumps(chapter), encoding='utf-8')
    for name, cells in {'explorer.ipynb': [explorer], 'inside.ipynb': [explorer, busy('looked-inside')], 'drawing.ipynb': [drawing, busy('looked-drawing')]}.items():
        kernel = dict(kernelspec=dict(name='python3', display_name='python3', language='python'))  # without it JupyterLab asks, after some seconds
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel), notebooks / name)
    shutil.copyfile(ROOT / 'nbs/playground.ipynb', notebooks / 'playground.ipynb')  # with its output, and nobody has said that it may be trusted
    places = {name: str(folder / name.lower()) for name in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR', 'JUPYTERLAB_SETTINGS_DIR', 'JUPYTERLAB_WORKSPACES_DIR')}
    env = os.environ | places | dict(UNET_COURSE_TINY='1', UNET_COURSE_CACHE=str(folder / 'cache'), UNET_COURSE_DATA=str(folder / 'no-photos'),
                                     PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    log = (folder / 'lab.log').open('w')
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={token}',
                               f'--ServerApp.root_dir={notebooks}', '--LabApp.news_url=None', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'],
                              env=env, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / 'lab.log').read_text()
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/api?token={token}', timeout=5).close()
            except OSError: time.sleep(.5)
            else: break
        else: pytest.fail(f'JupyterLab did not answer: {(folder / "lab.log").read_text()}')
        class Lab:
            folder = notebooks
            def __call__(self, name): return f'http://127.0.0.1:{port}/lab/tree/{name}?token={token}'
        yield Lab()
    finally:
        server.terminate()  # it ends its kernels
        try: server.wait(30)
        except subprocess.TimeoutExpired: server.kill()
        log.close()


def run_all_cells(page, address):
    "Opens a notebook, alone, and runs it from the menu as a reader would; on a busy machine JupyterLab drops the order while the kernel is on its way."
    from playwright.sync_api import TimeoutError
    page.goto(address + '&reset')
    page.locator('.jp-Notebook .jp-Cell').first.wait_for(timeout=WAIT)
    page.locator('#jp-main-statusbar', has_text='| Idle').wait_for(timeout=WAIT)
    begun = page.locator('.jp-CodeCell .jp-InputPrompt').filter(has_text=re.compile(r'\[[*\d]')).first
    for _ in range(10):
        page.get_by_role('menuitem', name='Run', exact=True).click()
        page.get_by_role('menuitem', name='Run All Cells', exact=True).click()
        with contextlib.suppress(TimeoutError): return begun.wait_for(timeout=30_000)
    pytest.fail('JupyterLab does not run the cells')


def keep_screenshot(page, name, locator=None):
    if folder := os.environ.get('SCREENSHOTS'): (locator or page).screenshot(path=str(Path(folder, f'browser_{name}.png')))


def picture(source: str) -> np.ndarray:
    "The pixels of a data address."
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(',')[2]))))


def toggle(page, widget, text, which=0):
    "Clicks the toggle of that text in the widget; the `which`-th if it has several."
    button = widget.locator('button.jupyter-button', has_text=re.compile(f'^{text}$')).nth(which)
    button.scroll_into_view_if_needed()
    button.click()
    return button


def test_architecture_explorer_in_jupyterlab(page, lab):
    from unet_course.factory import count_parameters, create_model
    run_all_cells(page, lab('02_factory.ipynb'))
    widget = page.locator('.jupyter-widgets.widget-vbox').filter(has=page.locator('.widget-toggle-buttons')).first
    widget.wait_for(timeout=WAIT)
    seen = set()
    for down in (*DOWN, 'str_conv_bn'):
        toggle(page, widget, down)
        for up in UP:
            toggle(page, widget, up)
            expected = f'{count_parameters(create_model(dict(downsample_mode=down, upsample_mode=up))):,}'
            widget.locator('table tr', has_text='total').filter(has_text=expected).wait_for(timeout=WAIT)
            image = widget.locator('img').first
            image.wait_for()
            seen.add(image.get_attribute('src'))
    assert len(seen) == 6, 'a drawing for every combination'
    keep_screenshot(page, 'lab_02', widget)


def test_explorer_in_jupyterlab(page, lab):
    page.set_viewport_size(dict(width=1366, height=768))
    run_all_cells(page, lab('explorer.ipynb'))
    with contextlib.suppress(Exception): page.locator('.jp-toast-button', has_text='No').click(timeout=5000)  # Jupyter's news, in front of the widget
    widget = page.locator('.uc-explorer')
    panel = widget.locator('.uc-panel').first
    panel.locator('[data-shows=picture]').wait_for(timeout=WAIT)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(state='attached', timeout=WAIT)
    boxes = [figure.bounding_box() for figure in panel.locator('figure').all()]
    assert len(boxes) == 4 and len({round(box['y']) for box in boxes}) == 1, 'four panels in one row'
    keep_screenshot(page, 'lab_explorer')
    seen = {}
    for down in DOWN:
        toggle(page, widget, down)
        for up in UP:
            toggle(page, widget, up)
            for loss in LOSS:
                button = toggle(page, widget, loss)
                figure = widget.locator(f'.uc-panel[data-state^="first-down-{down} first-up-{up} first-loss-{loss} "] figure[data-shows="{down}-{up}-{loss}"]').first
                figure.wait_for(timeout=WAIT)
                assert 'mod-active' in button.get_attribute('class')
                caption, alt, source = figure.evaluate("f => [f.querySelector('figcaption').innerText, f.querySelector('img').alt, f.querySelector('img').src]")  # at one time
                assert re.match(rf'{down}-{up}-{loss}: IoU [01]\.\d{{3}}; ', caption), caption
                assert alt == caption
                seen[down, up, loss] = caption.partition(': ')[2], source
    assert len({source for _, source in seen.values()}) >= len({caption for caption, _ in seen.values()}) > 1, 'pictures with different figures differ'
    toggle(page, widget, 'tr', which=1)  # the second network
    panel.locator('figure[data-shows="mp-tr-bce"]').wait_for()
    assert [f.get_attribute('data-shows') for f in panel.locator('figure').all()] == ['picture', 'str_conv-ups-dice', 'mp-tr-bce', 'difference']
    assert re.search(r'[\d.]+% of the pixels; /// only str_conv-ups-dice, \\\\\\ only mp-tr-bce', panel.locator('figure[data-shows=difference] figcaption').inner_text())
    # with the keyboard alone
    toggle(page, widget, 'mp').focus()
    widget.locator('.uc-panel[data-state^="first-down-mp first-up-ups first-loss-dice"]').first.wait_for()
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    widget.locator('.uc-panel[data-state^="first-down-str_conv"]').first.wait_for()
    # own pictures
    widget.locator('select').first.select_option('My own')
    widget.locator('[role=alert]', has_text='choose a picture').wait_for()
    buffer = io.BytesIO()
    Image.new('RGB', (40, 20), 'red').save(buffer, format='PNG')
    with page.expect_file_chooser() as chooser: widget.locator('button', has_text='Choose a picture').click()
    chooser.value.set_files(files=[dict(name='red.png', mimeType='image/png', buffer=buffer.getvalue())])
    own = widget.locator('figure[data-shows=picture]', has_text='your picture')
    own.wait_for()
    assert tuple(picture(own.locator('img').get_attribute('src')).mean((0, 1)).round()) == pytest.approx((254, 0, 0), abs=2)
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]').count() == 0


DRAWN = """selector => { const node = document.querySelector(selector + ' .uc-drawn');
    const before = getComputedStyle(node, '::before'), shown = [...node.children].filter(child => child.offsetParent).map(child => getComputedStyle(child).opacity);
    return {opacity: [...new Set(shown)].join(), says: before.content + (before.opacity === '1' ? '' : ' (soon)')}; }"""


def is_old(page, selector, old: bool):
    "Waits until the drawing says that it is older than the toggles, or that it is not."
    page.wait_for_function(f"([selector, old]) => {{ const seen = ({DRAWN})(selector); return old ? seen.opacity === '0.2' && seen.says.includes('kernel is busy') && !seen.says.includes('soon') : seen.opacity === '1' && seen.says === 'none'; }}", arg=[selector, old])


def test_the_drawing_of_chapter_02_says_when_the_kernel_is_busy(page, lab):
    run_all_cells(page, lab('drawing.ipynb'))
    widget = page.locator('.uc-architecture')
    widget.locator('table').wait_for(timeout=WAIT)
    is_old(page, '.uc-architecture', False)
    for mode in ('ups', 'str_conv'):  # the second cell keeps the kernel busy
        toggle(page, widget, mode)
        is_old(page, '.uc-architecture', True)
        toggle(page, widget, dict(ups='tr', str_conv='mp')[mode])
        is_old(page, '.uc-architecture', False)
    widget.locator('select').select_option('16')
    is_old(page, '.uc-architecture', True)
    keep_screenshot(page, 'lab_02_busy')
    (lab.folder / 'looked-drawing').touch()
    widget.locator('[data-state="down-mp up-tr width-16"]').wait_for()
    is_old(page, '.uc-architecture', False)


def test_the_inside_in_jupyterlab(page, lab):
    page.set_viewport_size(dict(width=1366, height=768))
    run_all_cells(page, lab('inside.ipynb'))
    with contextlib.suppress(Exception): page.locator('.jp-toast-button', has_text='No').click(timeout=1000)
    widget = page.locator('.uc-explorer')
    widget.locator('.uc-panel [data-shows=picture]').first.wait_for(timeout=WAIT)
    assert widget.get_by_text('First network: mp-tr-bce').is_visible() and widget.get_by_text('Second network: mp-ups-bce').is_visible(), 'they differ in the up mode alone'
    # the second cell keeps the kernel busy until the test has looked: the toggles are ahead of the drawing, which says so
    toggle(page, widget, 'str_conv')
    is_old(page, '.uc-explorer', True)
    keep_screenshot(page, 'lab_busy')
    toggle(page, widget, 'mp')
    is_old(page, '.uc-explorer', False)
    toggle(page, widget, 'str_conv')
    (lab.folder / 'looked-inside').touch()
    widget.locator('.uc-panel[data-state^="first-down-str_conv first-up-tr"]').first.wait_for(timeout=WAIT)
    is_old(page, '.uc-explorer', False)
    opener = widget.get_by_role('button', name='Look inside')  # beside the toggles; the panel's own button is below the masks
    opener.focus()
    page.keyboard.press('Enter')
    said = widget.locator('[role=status]')
    said.wait_for()
    widget.locator('[aria-label^="Loupe over"] figure').nth(9).wait_for()
    assert said.inner_text().startswith('In short') and widget.locator('[aria-label^="Loupe over"] figure').count() == 10
    seen = [box for box in (widget.locator(f'.uc-explorer-first-{factor}').bounding_box() for factor in ('down', 'up', 'loss'))] + [said.bounding_box(), widget.locator('[aria-label^="Loupe over"] figure').first.bounding_box()]
    assert max(box['y'] + box['height'] for box in seen) - min(box['y'] for box in seen) < 640, 'toggles, masks, what is said in short and the first loupe share a screen of 1366 x 768'
    keep_screenshot(page, 'lab_loupe')
    widget.get_by_text('Untrained').click()
    widget.locator('[aria-label="Loupe over untrained mp-ups-bce"]').wait_for()
    for view, label in (('Readouts', 'readouts'), ('Grey square', 'grey square')):
        toggle(page, widget, view)
        widget.locator(f'[aria-label*="{label}"]').first.wait_for()
    toggle(page, widget, 'Skips')
    before = widget.locator('.uc-panel figcaption').nth(1).inner_text()
    widget.get_by_text('Skip 1', exact=True).click()
    page.wait_for_function('old => document.querySelectorAll(".uc-explorer .uc-panel figcaption")[1].textContent !== old', arg=before)
    widget.get_by_role('button', name='Rebuild 4 to 1').press('Enter')
    widget.locator('[aria-label*="skip ladder"] figure').nth(9).wait_for()
    widget.locator('table', has_text='boundary IoU').wait_for()
    widget.get_by_role('button', name='Rebuild 1 to 4').press('Enter')
    widget.locator('[aria-label*="skip ladder"] figure', has_text='1+2').first.wait_for()
    assert widget.locator('[aria-label*="skip ladder"] figure').first.evaluate('node => getComputedStyle(node).opacity') == '1', 'only the masks depend on the toggles'
    keep_screenshot(page, 'lab_skips')
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]').count() == 0


@pytest.fixture
def static(tmp_path):
    "Serves the HTML outputs of a chapter, as they are stored, as a page of static files on loopback; its address."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def address(html: str) -> str:
        (tmp_path / 'index.html').write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>twin</title><body>{html}</body></html>', encoding='utf-8')
        return f'http://127.0.0.1:{server.server_port}/index.html'
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


def stored_twin(chapter: str, marker: str) -> str:
    "The HTML output of the chapter that holds `marker`, as stored."
    nb = json.loads((ROOT / 'nbs' / chapter).read_text(encoding='utf-8'))
    found = [''.join(o['data']['text/html']) for c in nb['cells'] if c['cell_type'] == 'code' for o in c['outputs'] if 'text/html' in o.get('data', {}) and marker in ''.join(o['data']['text/html'])]
    assert len(found) == 1, f'{len(found)} outputs of {chapter} with {marker}'
    return found[0]


def watch(page):
    "Everything that the page asks for or complains about, from now on."
    requests, complaints = [], []
    page.on('request', lambda r: requests.append(r.url))
    page.on('console', lambda m: complaints.append(m.text) if m.type == 'error' and 'favicon' not in m.location.get('url', '') else None)
    page.on('pageerror', lambda e: complaints.append(str(e)))
    return requests, complaints


def test_architecture_twin_as_static_files(page, static):
    from unet_course.factory import count_parameters, create_model
    requests, complaints = watch(page)
    page.goto(static(stored_twin('02_factory.ipynb', 'unet-twin-down-mp')))
    for down in (*DOWN, 'str_conv_bn'):
        for up in UP:
            page.get_by_label(f'down: {down}', exact=True).check()
            page.get_by_label(f'up: {up}', exact=True).check()
            visible = [f for f in page.locator('figure').all() if f.is_visible()]
            assert len(visible) == 1
            parameters = count_parameters(create_model(dict(downsample_mode=down, upsample_mode=up)))
            assert visible[0].locator('figcaption').inner_text().startswith(f'{down}-{up}: {parameters:,} parameters')
            assert visible[0].locator('img').evaluate('node => node.complete && node.naturalWidth > 100')
    keep_screenshot(page, 'twin_02')
    assert not complaints and not [url for url in requests if not url.startswith(('data:', 'http://127.0.0.1:'))]
