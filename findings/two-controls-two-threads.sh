#!/usr/bin/env bash
# A notebook kernel calls what watches a widget's controls one after the other: while one change is drawn, the next waits. JupyterLab (4.4 and later) sends the messages
# of all widgets to one other thread of the kernel, a subshell, so that they need not wait for a cell (its setting: comms over subshells, by default one for each comm target).
# Expected: two sliders of one box, moved one after the other, are answered in one thread, the second after the first.
# Seen (ipykernel 7.4.0): the kernel sends each message on to the thread in which that control itself spoke last. A slider that was made in a cell and was moved once
# has answered from the subshell, one that was never moved spoke last from the cell: its first message goes to the main thread. Both observers run at the same time.
# ipykernel 7.1.0 leaves both to the subshell, one after the other.
# Where it matters: a widget that draws when a control changes. If the older drawing takes longer it is put up last and stays, whatever the controls say; and Matplotlib's
# pyplot is called from two threads. Let observers take one lock, and read all controls once they have it.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > test.py <<'PY'
import sys
import time

import ipykernel
from jupyter_client.manager import KernelManager

CELL = '''
import threading, time
import ipywidgets
ran, first, second = [], ipywidgets.IntSlider(), ipywidgets.IntSlider()
def watch(name):
    def drawn(change):
        begun = time.monotonic()
        time.sleep(.5)
        ran.append((name, change['new'], 'main' if threading.current_thread() is threading.main_thread() else 'subshell', begun, time.monotonic()))
    return drawn
first.observe(watch('first'), 'value')
second.observe(watch('second'), 'value')
'''
manager = KernelManager(kernel_name='python3')
manager.start_kernel()
client = manager.client()
client.start_channels()


def evaluated(expression):
    answer = client.execute('', user_expressions=dict(x=expression), reply=True, timeout=60)['content']['user_expressions']['x']
    return eval(answer['data']['text/plain'])


def control(kind, content={}):
    client.control_channel.send(client.session.msg(kind, content))
    return client.control_channel.get_msg(timeout=60)['content']


def move(slider, value):
    message = client.session.msg('comm_msg', dict(comm_id=slider, data=dict(method='update', state=dict(value=value), buffer_paths=[])))
    message['header']['subshell_id'] = subshell
    client.shell_channel.send(message)


try:
    client.wait_for_ready(timeout=60)
    client.execute(CELL, reply=True, timeout=60)
    one, two = evaluated('[first.model_id, second.model_id]')
    subshell = control('create_subshell_request')['subshell_id']
    move(one, 1)
    for _ in range(100):
        if evaluated('ran'): break
        time.sleep(.1)
    move(one, 2)
    move(two, 1)
    for _ in range(100):
        if len(ran := evaluated('ran')) == 3: break
        time.sleep(.1)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
together = max(r[3] for r in ran[1:]) < min(r[4] for r in ran[1:])
print('ipykernel', ipykernel.__version__, [r[:3] for r in ran], 'at the same time' if together else 'one after the other')
assert together == (sys.argv[1] == 'together')
PY
for version in 7.4.0=together 7.1.0=apart; do
  python3 -m venv --clear env
  env/bin/pip install -q "ipykernel==${version%=*}" ipywidgets==8.1.9 jupyter_client==8.10.0
  env/bin/python test.py "${version#*=}" 2>/dev/null
done
