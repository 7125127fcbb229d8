"""What was asked last is what the page ends in, whatever is still on its way: links, rebuilding, own pictures and the panel, in a real browser.

    python tools/get_runtime.py && pytest -m browser tests/test_playground_order.py"""
import pytest
from PIL import Image

from test_playground import MISSING, PLACE, Seen, browser, chromium, first_run, held, open_bytes, page, png, predicted, ready, server  # noqa: F401
from test_playground_inside import look, said
from unet_course.datasets.synthetic import draw_pet
from unet_course.views.page import write_playground

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200), pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
P = "document.querySelector('.playground').playground"


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return write_playground(['mp-tr-bce', 'mp-ups-bce', 'mp-tr-dice'], tmp_path_factory.mktemp('site'), PLACE)


def go(page, address): page.evaluate('address => { location.hash = address; }', address)


def quiet(page):
    "Waits until nothing runs and nothing follows."
    page.evaluate(f"""async () => {{ const {{networks}} = {P};
        for (let last, calm = 0; calm < 3; calm = last === networks.last ? calm + 1 : 0) {{ last = networks.last; await last.catch(() => null); await new Promise(done => setTimeout(done, 100)); }} }}""")
    page.wait_for_function("document.querySelector('.playground').getAttribute('aria-busy') !== 'true'")


def test_a_link_during_a_prediction_is_answered_and_the_older_question_is_not(page):
    "The older question's network comes while the link's picture is on its way."
    first_run(page)
    with held(page, '**/coffee.jpg'):
        with held(page, '**/mp-ups-bce.onnx'):
            page.locator('[name=pg-a-up][value=ups]').check()
            go(page, '#down=mp&up=tr&loss=dice&b=mp-ups-bce&picture=coffee')
            page.wait_for_function("document.querySelector('.playground').playground.state.variants.a === 'mp-tr-dice'")
        page.wait_for_function("document.querySelector('.playground').playground.networks.sessions.has('wasm mp-ups-bce')")
        page.evaluate("document.querySelector('.playground').playground.networks.last.then(() => null)")
    predicted(page, 'a', 'mp-tr-dice')
    predicted(page, 'b', 'mp-ups-bce')
    assert page.locator('[role=alert]').is_hidden() and page.locator('.pg-ask').is_hidden()


def test_a_link_before_the_page_is_ready(page, server):
    first_run(page)
    page.goto('about:blank')
    with held(page, '**/samples/chelsea.jpg'):
        page.goto(server + 'index.html')
        page.wait_for_selector('.pg-app')
        go(page, '#down=mp&up=tr&loss=bce&b=&view=skips')
    ready(page)
    said(page, 'Skip connections on')
    assert page.evaluate('location.hash') == '#down=mp&up=tr&loss=bce&b=&picture=chelsea&view=skips'


def test_the_last_of_two_links(page):
    first_run(page)
    with held(page, '**/coffee.jpg'):
        go(page, '#down=mp&up=tr&loss=bce&b=&picture=coffee&view=skips')
        page.wait_for_function(f'{P}.way === 1')
        go(page, '#down=mp&up=tr&loss=bce&b=&view=readouts')
        page.wait_for_function('document.querySelectorAll(".pg-u canvas").length === 9')
    quiet(page)
    assert page.evaluate('location.hash').endswith('&view=readouts') and page.locator('[name=pg-inside][value=readouts]').is_checked()


def test_a_link_leaves_the_picture_that_is_being_opened(page):
    first_run(page)
    page.evaluate("() => { window.decode = createImageBitmap; window.createImageBitmap = async (...all) => { await new Promise(done => { window.release = done; }); return decode(...all); }; }")
    page.locator('.pg-file').set_input_files(files=[dict(name='own.png', mimeType='image/png', buffer=png(Image.fromarray(draw_pet(5, 2, 90)[0])))])
    page.wait_for_function('Boolean(window.release)')
    go(page, '#down=mp&up=tr&loss=dice&b=')
    page.wait_for_function(f"{P}.state.variants.a === 'mp-tr-dice'")
    page.evaluate('() => { window.createImageBitmap = decode; release(); }')
    page.wait_for_function(f"{P}.state.picture.title === 'own.png'")
    predicted(page, 'a', 'mp-tr-dice')


def test_a_link_to_a_view_that_cannot_be_loaded(page, server):
    first_run(page)
    server.down.add('inside.js')
    go(page, '#down=mp&up=ups&loss=bce&b=&view=loupe')
    page.locator('[role=alert]', has_text='views of the inside could not be loaded').wait_for()
    server.down.clear()
    predicted(page, 'a', 'mp-ups-bce')
    quiet(page)
    while not page.seen.complaints: page.wait_for_event('console')
    page.seen.complaints.clear()  # the browser's own note


def test_a_panel_closed_while_it_loads_stays_closed(page):
    first_run(page)
    with held(page, '**/inside.js'):
        with page.expect_request('**/inside.js'): page.locator('.pg-inside summary').click()
        page.locator('.pg-inside summary').click()
    page.wait_for_function(f'{P}.inside')
    quiet(page)
    assert page.locator('.pg-inside').get_attribute('open') is None


@pytest.mark.parametrize('then', ['a switch', 'a toggle', 'a second network', 'another view'])
def test_a_rebuild_ends_with_what_is_asked_next(page, then):
    first_run(page)
    look(page, 'skips')
    said(page, 'Skip connections on: all')
    selector = {'a switch': '.pg-skip[value="4"]', 'a toggle': '[name=pg-a-up][value=ups]', 'a second network': '.pg-compare', 'another view': '[name=pg-inside][value=readouts]'}[then]
    page.evaluate("""selector => new Promise(done => {
        const view = document.querySelector('.pg-inside-view'), watch = new MutationObserver(() => {
            if (view.querySelectorAll('figure').length !== 2) return;  // two of five rungs
            watch.disconnect();
            setTimeout(() => { document.querySelector(selector).click(); done(); });
        });
        watch.observe(view, {childList: true});
        document.querySelector('.pg-rebuild').click();
    })""", selector)
    quiet(page)
    boxes, gains = page.evaluate(f"[[...document.querySelectorAll('.pg-skip')].map(box => Number(box.checked)).reverse(), {P}.inside.gains]")
    if then == 'another view': assert gains is None and page.locator('.pg-inside-view figure').count() == 9
    else:
        assert boxes == gains and sum(gains) < 4
        on = [str(level) for level in (4, 3, 2, 1) if gains[level - 1]]
        assert f'Skip connections on: {", ".join(on) or "none"};' in said(page)
    # every mask is made with the state that the page names
    assert page.evaluate(f"""async () => {{ const {{state, networks, inside}} = {P}, far = [];
        for (const net of {P}.nets()) {{
            const {{size, variant, logits}} = state.results[net];
            const found = await networks.run(variant, state.backend, inside.toTensor(state.picture.squashed.get(size), size), inside.gain());
            far.push(Math.max(...found.logits.map((v, i) => Math.abs(v - logits[i]))));
        }}
        return far; }}""") == [0] * (2 if then == 'a second network' else 1)
    if then == 'a toggle': assert page.locator('.pg-inside-view figure').count() == 0, 'the steps were of another network'


def test_of_two_networks_dropped_at_once_the_later_one_stays(page):
    first_run(page)
    page.evaluate(f"""async () => {{
        const bytes = await (await fetch({P}.base + {P}.manifest.models['mp-tr-bce'].file)).arrayBuffer(), first = new File([bytes], 'first.onnx');
        first.arrayBuffer = () => new Promise(done => setTimeout(() => done(bytes), 500));
        await Promise.all([{P}.receive(first), {P}.receive(new File([bytes], 'second.onnx'))]);
    }}""")
    quiet(page)
    assert page.evaluate(f'{P}.state.variants.a') == 'second (yours)'


def test_a_damaged_download_is_no_reason_to_give_up_webgpu(page):
    first_run(page)
    page.route('**/mp-ups-bce.onnx', lambda route: route.fulfill(body=b'damaged'))
    page.evaluate(f"""() => {{ {P}.webgpu = 'yes'; {P}.$('.pg-backend option[value=webgpu]').disabled = false; {P}.$('.pg-backend').value = 'webgpu'; }}""")
    page.locator('[name=pg-a-up][value=ups]').check()
    page.locator('[role=alert]').wait_for()
    assert 'is not the file this page was made with' in page.locator('[role=alert]').inner_text()
    assert page.evaluate(f"[{P}.webgpu, {P}.$('.pg-backend').value]") == ['yes', 'webgpu']
