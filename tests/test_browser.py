"""Chapters 02 and 06 in a real browser: the widgets in JupyterLab with a kernel, their twins as static files without one.

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
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT

CHROMIUM = next((path for path in ('/usr/bin/chromium', shutil.which('chromium'), shutil.which('chromium-browser'), shutil.which('google-chrome')) if path and Path(path).exists()), None)
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
MISSING = 'no chromium (apt-get install chromium)' if CHROMIUM is None else 'no playwright (pip install playwright)' if importlib.util.find_spec('playwright') is None else \
          'no jupyterlab' if importlib.util.find_spec('jupyterlab') is None else None
pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200), pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
WAIT = int(os.environ.get("BROWSER_WAIT", 600)) * 1000  # milliseconds for a whole chapter on a busy machine
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
    opened.set_default_timeout(60_000)
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
    for name in ('02_factory.ipynb', '06_analysis.ipynb'):
        nb = json.loads((ROOT / 'nbs' / name).read_text(encoding='utf-8'))
        for cell in nb['cells']: cell.update(outputs=[]) if cell['cell_type'] == 'code' else None  # what is seen was made by this kernel
        (notebooks / name).write_text(json.dumps(nb), encoding='utf-8')
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
        yield lambda name: f'http://127.0.0.1:{port}/lab/tree/{name}?token={token}'
    finally:
        server.terminate()  # it ends its kernels
        try: server.wait(30)
        except subprocess.TimeoutExpired: server.kill()
        log.close()


def run_all_cells(page, address):
    "Opens a notebook and runs it from the menu as a reader would; waits for the kernel to be idle after the last cell."
    page.goto(address)
    page.locator('.jp-Notebook .jp-Cell').first.wait_for()
    dialog = page.locator('.jp-Dialog button', has_text='Select').last  # "which kernel?"; the offer is the right one
    from playwright.sync_api import TimeoutError
    with contextlib.suppress(TimeoutError): dialog.click(timeout=8000)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(state='attached')
    page.get_by_role('menuitem', name='Run', exact=True).click()
    page.get_by_role('menuitem', name='Run All Cells', exact=True).click()


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
    run_all_cells(page, lab('06_analysis.ipynb'))
    with contextlib.suppress(Exception): page.locator('.jp-toast-button', has_text='No').click(timeout=5000)  # Jupyter's news, in front of the widget
    widget = page.locator('.jupyter-widgets.widget-vbox').filter(has=page.locator('.widget-upload, .widget-slider')).first
    widget.locator('[data-shows=picture]').wait_for(timeout=WAIT)
    panel, seen = widget.locator('[role=group]'), {}
    for d, down in enumerate(DOWN):
        toggle(page, widget, down)
        for up in UP:
            toggle(page, widget, up)
            for loss in LOSS:
                button = toggle(page, widget, loss)
                figure = panel.locator(f'figure[data-shows="{down}-{up}-{loss}"]').first
                figure.wait_for(timeout=WAIT)
                assert 'mod-active' in button.get_attribute('class')
                caption, image = figure.locator('figcaption').inner_text(), figure.locator('img')
                assert re.match(rf'{down}-{up}-{loss}: IoU [01]\.\d{{3}}; ', caption), caption
                assert image.get_attribute('alt') == caption
                seen[down, up, loss] = caption.partition(': ')[2], image.get_attribute('src')
    assert len({source for _, source in seen.values()}) >= len({caption for caption, _ in seen.values()}) > 1, 'pictures with different figures differ'
    toggle(page, widget, 'ups', which=1)  # the second network
    panel.locator('figure[data-shows="mp-ups-dice"]').wait_for()
    assert [f.get_attribute('data-shows') for f in panel.locator('figure').all()] == ['picture', 'str_conv-ups-dice', 'mp-ups-dice', 'difference']
    before = panel.locator('figure[data-shows=difference] figcaption').inner_text()
    assert re.search(r'[\d.]+% of the pixels; /// only str_conv-ups-dice, \\\\\\ only mp-ups-dice', before), before
    keep_screenshot(page, 'lab_06', widget)
    # with the keyboard alone
    toggle(page, widget, 'mp').focus()
    panel.locator('figure[data-shows="mp-ups-dice"]').first.wait_for()
    page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    panel.locator('figure[data-shows="str_conv-ups-dice"]').first.wait_for()
    # another picture, and one's own
    assert 'procedural pet 0' in panel.locator('figure[data-shows=picture]').inner_text()
    widget.locator('select').nth(1).select_option(index=1)
    panel.locator('figure[data-shows=picture]', has_text='procedural pet 1').wait_for()
    widget.locator('select').first.select_option('My own')
    widget.locator('[role=alert]', has_text='choose a picture').wait_for()
    buffer = io.BytesIO()
    Image.new('RGB', (40, 20), 'red').save(buffer, format='PNG')
    with page.expect_file_chooser() as chooser: widget.locator('button', has_text='Choose a picture').click()
    chooser.value.set_files(files=[dict(name='red.png', mimeType='image/png', buffer=buffer.getvalue())])
    own = widget.locator('figure[data-shows=picture]', has_text='your picture')
    own.wait_for()
    assert tuple(picture(own.locator('img').get_attribute('src')).mean((0, 1)).round()) == pytest.approx((254, 0, 0), abs=2)
    with page.expect_file_chooser() as chooser: widget.locator('button', has_text='Choose a picture').click()
    chooser.value.set_files(files=[dict(name='notes.txt', mimeType='image/png', buffer=b'text')])
    widget.locator('[role=alert]', has_text='notes.txt: not a picture').wait_for()
    # no cell of the chapter failed
    assert page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]').count() == 0


def test_the_playground_in_an_untrusted_notebook_is_a_sentence_with_a_link(page, lab):
    page.goto(lab('playground.ipynb'))
    page.locator('.jp-RenderedHTMLCommon a', has_text="the course's site").wait_for()
    output = page.locator('.jp-OutputArea-output', has=page.locator('a', has_text="the course's site"))
    assert output.inner_text().count('.') == 1 and output.locator('button, input, select, canvas').count() == 0


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


def test_explorer_twin_as_static_files(page, static):
    from unet_course.views.explorer import LOOKS, mask_caption
    requests, complaints = watch(page)
    html = stored_twin('06_analysis.ipynb', 'explorer-twin-panels')
    stored, _ = json.JSONDecoder().raw_decode(html, html.index('stored = ') + 9)
    levels = [np.frombuffer(zlib.decompress(base64.b64decode(p['levels'])), np.uint8).reshape(9, p['height'], p['width']) for p in stored]
    names = [f'{down}-{up}-{loss}' for down in DOWN for up in UP for loss in LOSS]
    page.goto(static(html))
    figures, twin = page.locator('.explorer-twin figure'), page.locator('#explorer-twin')
    figures.and_(page.locator('[data-shows=difference]')).wait_for()
    keep_screenshot(page, 'twin_06')

    def choose(which, name):
        for factor, level in zip(('down', 'up', 'loss'), name.split('-')): twin.get_by_role('radiogroup', name=f'{which} network, {factor}').get_by_label(level, exact=True).check()

    def drawn(j): return np.array(figures.nth(j).locator('canvas').evaluate('c => [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]'), np.uint8)

    def seen(j): return figures.nth(j).get_attribute('data-shows'), figures.nth(j).locator('figcaption').inner_text()
    assert len(stored) > 2 and figures.count() == 4
    for k, p in enumerate(stored):
        truth = levels[k][8].astype(bool) if p['truth'] else None
        caption = {name: mask_caption(levels[k][i] >= 10, truth) for i, name in enumerate(names)}
        twin.get_by_label('picture').select_option(str(k))
        assert seen(0) == ('picture', p['title'])
        for name in names if k == 0 else names[::7]:
            other = names[-1 - names.index(name)]
            choose('first', name), choose('second', other)
            a, b = (levels[k][names.index(n)] >= 10 for n in (name, other))
            assert [seen(j) for j in (1, 2)] == [(n, f'{n}: {caption[n]}') for n in (name, other)]
            assert seen(3) == ('difference', f'difference: {(a != b).mean():.1%} of the pixels; /// only {name}, \\\\\\ only {other}')
            assert all(figures.nth(j).get_by_role('img').get_attribute('aria-label') == seen(j)[1] for j in range(4))
    # the pixels are those of the masks, striped in two directions
    pixels = drawn(3).reshape(2 * p['height'], 2 * p['width'], 4)[::2, ::2]
    assert np.array_equal(pixels[..., 3] > 0, a != b) and (a != b).any()
    for area, look in ((a & ~b, 'extra'), (b & ~a, 'missed')): assert np.abs(pixels[area][:, :3].astype(int) - LOOKS[look][0]).max(initial=0) <= 3  # stored premultiplied
    assert not drawn(0).any() and p['uri'] in figures.nth(0).get_by_role('img').evaluate('node => getComputedStyle(node).backgroundImage')
    # by keyboard alone: a toggle, the threshold, the overlay
    choose('first', 'mp-tr-bce')
    page.locator('#explorer-twin-first-down-mp').focus()
    page.keyboard.press('ArrowRight')
    assert seen(1)[0] == 'str_conv-tr-bce'
    twin.get_by_label('threshold').focus()
    for _ in range(4): page.keyboard.press('ArrowRight')
    mask = levels[-1][names.index('str_conv-tr-bce')] >= 14
    assert seen(1)[1] == f'str_conv-tr-bce: {mask_caption(mask, truth)}' and page.locator('#explorer-twin-threshold + output').inner_text() == '0.7'
    assert drawn(1).any()
    page.keyboard.press('Tab')
    page.keyboard.press('Home')
    assert page.locator('#explorer-twin-overlay + output').inner_text() == '0' and not drawn(1).any()
    assert not complaints and not [url for url in requests if not url.startswith(('data:', 'http://127.0.0.1:'))]
