// SPDX-License-Identifier: Apache-2.0
// Draws the node's picture from `api/node`, every two seconds. Names of pods are written as text, never as markup.
'use strict';

const EVERY_MS = 2000;
const SHOWN = 24; // pods of a VLAN before "show all"
const HISTORY = 60;
const $ = (id) => document.getElementById(id);

/** Last answer, the one before it, and what the reader has chosen. */
const view = { now: null, before: null, paused: false, open: new Set(), whole: new Set(), failed: null };
const history = { in: [], out: [], drops: [] };

// --- small tools

/** Makes an element with a class and text. */
function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Writes a text if it is another: the reader's selection survives. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Keeps the children of `parent` one for each item, in order; `update(child, item)` fills them. */
function keyed(parent, items, key, create, update) {
  const old = new Map();
  for (const child of parent.children) old.set(child.dataset.key, child);
  const held = parent.contains(document.activeElement); // moving an element would take the focus from it
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = old.get(name);
    if (!child) { child = create(item); child.dataset.key = name; }
    old.delete(name);
    update(child, item);
    if (child.parentNode !== parent) parent.insertBefore(child, place);
    else if (child === place) place = place.nextElementSibling;
    else if (!held) parent.insertBefore(child, place);
  }
  for (const gone of old.values()) gone.remove();
}

const UNITS = ['', 'k', 'M', 'G', 'T'];
function scaled(value, unit) {
  if (value === null || value === undefined) return '–';
  let step = 0;
  while (value >= 1000 && step < UNITS.length - 1) { value /= 1000; step += 1; }
  const digits = value >= 100 || step === 0 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(value > 0 && value < 1 && step === 0 ? 1 : digits)} ${UNITS[step]}${unit}`;
}
const bits = (bytes) => scaled(bytes === null ? null : bytes * 8, 'bit/s');
const packets = (frames) => scaled(frames, 'pkt/s');
const whole = (number) => number.toLocaleString('en');

function span(seconds) {
  const d = Math.floor(seconds / 86400), h = Math.floor(seconds / 3600) % 24, m = Math.floor(seconds / 60) % 60;
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min` : `${Math.floor(seconds)} s`;
}

// --- rates

/** Rate of a counter between the last two answers; null before there are two, or when it began anew. */
function rate(now, before) {
  if (before === undefined || now < before || !view.elapsed) return null;
  return (now - before) / view.elapsed;
}

const sum = (drops) => Object.values(drops).reduce((all, one) => all + one, 0);

function index() {
  const before = view.before || {};
  const by = (list, key) => new Map((list || []).map((item) => [key(item), item]));
  view.elapsed = view.before ? (view.now.at_ms - before.at_ms) / 1000 : 0;
  const uplinks = by(before.uplinks, (u) => u.name);
  const attachments = by(before.attachments, (a) => a.id);
  const workers = by(before.workers, (w) => w.id);
  for (const uplink of view.now.uplinks) {
    const old = uplinks.get(uplink.name) || {};
    uplink.in = rate(uplink.rx_bytes, old.rx_bytes);
    uplink.out = rate(uplink.tx_bytes, old.tx_bytes);
    uplink.in_packets = rate(uplink.rx_frames, old.rx_frames);
    uplink.out_packets = rate(uplink.tx_frames, old.tx_frames);
    uplink.dropping = old.drops ? rate(sum(uplink.drops), sum(old.drops)) : null;
  }
  for (const one of view.now.attachments) {
    const old = attachments.get(one.id) || {};
    one.in = rate(one.rx_bytes, old.rx_bytes);
    one.out = rate(one.tx_bytes, old.tx_bytes);
    const all = (a) => sum(a.ingress_drops) + sum(a.egress_drops);
    one.dropped = all(one);
    one.dropping = old.ingress_drops ? rate(one.dropped, all(old)) : null;
    one.worst = null;
    for (const side of ['ingress_drops', 'egress_drops']) {
      for (const [reason, count] of Object.entries(one[side])) {
        const now = old[side] ? rate(count, old[side][reason] || 0) : null;
        if (now > 0 && (!one.worst || now > one.worst.now)) one.worst = { reason, now };
      }
    }
    one.text = [one.namespace, one.pod, one.interface, one.mac, one.network, ...one.vids.map((vid) => `vlan ${vid}`)]
      .join(' ').toLowerCase();
  }
  for (const worker of view.now.workers) {
    const old = workers.get(worker.id) || {};
    const busy = rate(worker.busy_cycles, old.busy_cycles);
    const idle = rate(worker.idle_cycles, old.idle_cycles);
    const loops = rate(worker.loops, old.loops);
    const empty = rate(worker.empty_loops, old.empty_loops);
    if (busy + idle > 0) worker.busy = busy / (busy + idle);
    else worker.busy = loops > 0 ? Math.max(0, 1 - empty / loops) : null;
  }
}

// --- parts of the picture

function header() {
  const { now } = view;
  put($('node'), now.node || 'this node');
  document.title = `${now.node || 'node'} · Sluicegate`;
  const engine = now.engine;
  put($('facts'), engine
    ? `sluiced ${engine.version}, up ${span(engine.uptime_seconds)}, policy version ${engine.policy_version}`
    : 'The engine does not answer.');
  const state = !engine || !engine.ready ? 'bad' : now.problems.length ? 'warn' : 'good';
  const words = { good: 'healthy', warn: 'degraded', bad: engine ? 'not ready' : 'engine away' };
  $('state').dataset.state = view.paused ? 'wait' : state;
  put($('state'), view.paused ? 'paused' : words[state]);
}

function problems(list) {
  $('problems').hidden = list.length === 0;
  keyed($('problems').firstElementChild, list, (text) => text, () => make('li'), put);
}

function spark(series, value) {
  const points = history[series];
  points.push(value === null ? 0 : value);
  if (points.length > HISTORY) points.shift();
  const svg = document.querySelector(`.spark[data-series=${series}]`);
  svg.setAttribute('viewBox', `0 0 ${HISTORY - 1} 34`);
  svg.setAttribute('preserveAspectRatio', 'none');
  const top = Math.max(1, ...points);
  const at = points.map((point, n) => `${HISTORY - points.length + n},${(32 - (point / top) * 28).toFixed(1)}`);
  if (!svg.firstChild) {
    for (const tag of ['path', 'polyline']) svg.append(document.createElementNS('http://www.w3.org/2000/svg', tag));
  }
  svg.firstChild.setAttribute('d', `M${HISTORY - points.length},34 L${at.join(' L')} L${HISTORY - 1},34 Z`);
  svg.lastChild.setAttribute('points', at.join(' '));
}

function tiles() {
  const { now } = view;
  const total = (list, field) => list.reduce((all, one) => (one[field] === null ? all : (all || 0) + one[field]), null);
  const rates = { in: total(now.uplinks, 'in'), out: total(now.uplinks, 'out') };
  put($('t-in'), bits(rates.in));
  put($('t-in-pps'), packets(total(now.uplinks, 'in_packets')));
  put($('t-out'), bits(rates.out));
  put($('t-out-pps'), packets(total(now.uplinks, 'out_packets')));
  const reasons = now.drops;
  const before = view.before && view.before.drops;
  const dropping = before ? rate(sum(reasons), sum(before)) : null;
  put($('t-drops'), packets(dropping));
  put($('t-drops-sub'), `${whole(sum(reasons))} in all`);
  const up = now.attachments.filter((one) => one.link === 'up').length;
  put($('t-att'), whole(now.attachments.length));
  put($('t-att-sub'), `${whole(up)} connected`);
  const memory = now.memory;
  put($('t-mem'), memory && memory.small.all ? `${Math.round((100 * memory.small.free) / memory.small.all)} %` : '–');
  put($('t-mem-sub'), memory ? `of ${whole(memory.small.all)}, ${memory.backing}` : '');
  const balance = now.balance;
  put($('t-bal'), balance ? (balance.balanced ? 'even' : whole(balance.difference)) : '–');
  put($('t-bal-sub'), balance ? (balance.balanced ? 'every frame accounted for' : 'frames not accounted for') : '');
  if (!view.paused) { spark('in', rates.in); spark('out', rates.out); spark('drops', dropping); }
}

function rates() {
  const box = make('div', 'rates');
  for (const [name, label, kind] of [['in', 'rx', ''], ['out', 'tx', ' out']]) {
    const bar = make('div', `bar${kind}`);
    bar.append(make('i'));
    box.append(make('span', 'l', label), bar, make('span', `v ${name}`, '–'));
  }
  return box;
}

function fillRates(box, one, top) {
  const parts = box.children;
  parts[1].firstChild.style.width = `${top ? Math.min(100, (100 * (one.in || 0)) / top) : 0}%`;
  put(parts[2], bits(one.in));
  parts[4].firstChild.style.width = `${top ? Math.min(100, (100 * (one.out || 0)) / top) : 0}%`;
  put(parts[5], bits(one.out));
}

function createUplink() {
  const box = make('div', 'uplink');
  box.append(make('div', 'name'), make('span', 'link'), make('span', 'why'), rates());
  return box;
}

function fillUplink(box, uplink) {
  put(box.children[0], `${uplink.name} · ${uplink.driver} ${uplink.device === uplink.name ? '' : uplink.device}`);
  box.children[1].dataset.link = uplink.link;
  put(box.children[1], uplink.link);
  put(box.children[2], uplink.link_reason ? ` ${uplink.link_reason}` : '');
  fillRates(box.children[3], uplink, view.topUplink);
}

function createPod(one) {
  const pod = make('li', 'pod');
  const button = make('button');
  button.type = 'button';
  const who = make('span', 'who');
  who.append(make('span'), make('b'));
  button.append(make('span', 'dot'), who, make('span', 'if'));
  const more = make('dl');
  more.hidden = true;
  pod.append(button, rates(), make('p', 'drop'), more);
  button.addEventListener('click', () => {
    if (!view.open.delete(one.id)) view.open.add(one.id);
    draw();
  });
  return pod;
}

function fillPod(pod, one) {
  const [button, box, drop, more] = pod.children;
  const open = view.open.has(one.id);
  button.setAttribute('aria-expanded', String(open));
  button.children[0].dataset.link = one.link;
  put(button.children[1].children[0], one.namespace ? `${one.namespace}/` : '');
  put(button.children[1].children[1], one.pod);
  button.title = `${one.namespace}/${one.pod} ${one.interface}, link ${one.link}`;
  put(button.children[2], one.trunk ? `${one.interface} · trunk` : one.interface);
  fillRates(box, one, view.topPod);
  pod.classList.toggle('dropping', one.dropping > 0);
  put(drop, one.worst ? `${one.worst.reason} ${scaled(one.worst.now, '/s')}` : '');
  more.hidden = !open;
  if (!open) return;
  const facts = [['link', one.last_down && one.link !== 'up' ? `${one.link}: ${one.last_down}` : one.link], ['MAC', one.mac],
    ['back end', one.backend], ['worker', String(one.worker)], ['received', `${whole(one.rx_frames)} frames`],
    ['sent', `${whole(one.tx_frames)} frames`], ['held back', whole(one.held_back)]];
  for (const side of ['ingress', 'egress']) {
    for (const [reason, count] of Object.entries(one[`${side}_drops`])) facts.push([`${side} ${reason}`, whole(count)]);
  }
  for (const advice of one.advice) facts.push(['spoofing', advice]);
  more.replaceChildren(...facts.flatMap(([name, value]) => [make('dt', '', name), make('dd', '', value)]));
}

/** Colour of a VLAN: any but those of alarm. */
const hue = (vid) => 150 + ((vid * 47) % 170);

function createLane(lane) {
  const box = make('section', 'lane');
  box.style.setProperty('--hue', String(hue(lane.vid)));
  const head = make('header');
  head.append(make('h3'), make('span', 'policy'), make('span', 'sum'));
  const more = make('button', 'more');
  more.type = 'button';
  more.addEventListener('click', () => {
    const key = box.dataset.key;
    if (!view.whole.delete(key)) view.whole.add(key);
    draw();
  });
  box.append(head, make('ul', 'pods'), make('p', 'none'), more);
  return box;
}

function order(one, other) {
  const by = $('sort').value;
  const weight = (a) => (by === 'rate' ? (a.in || 0) + (a.out || 0) : by === 'drops' ? a.dropping || 0 : 0);
  const name = (a) => `${a.namespace}/${a.pod}/${a.interface}`;
  return weight(other) - weight(one) || name(one).localeCompare(name(other));
}

function fillLane(box, lane) {
  const [head, pods, none, more] = box.children;
  put(head.children[0], lane.vid === 0 ? 'untagged' : `VLAN ${lane.vid}`);
  box.setAttribute('aria-label', `${lane.network}, ${head.children[0].textContent}`);
  put(head.children[1], lane.policy ? `policy ${lane.policy}` : 'no policy: carries nothing');
  box.classList.toggle('shut', !lane.policy);
  const field = (name) => lane.pods.reduce((all, one) => all + (one.trunk ? 0 : one[name] || 0), 0);
  put(head.children[2], `${lane.pods.length} ${lane.pods.length === 1 ? 'pod' : 'pods'} · rx ${bits(field('in'))} · tx ${bits(field('out'))}`);
  const found = lane.pods.filter((one) => !view.filter || one.text.includes(view.filter)).sort(order);
  const all = view.whole.has(box.dataset.key);
  const shown = all ? found : found.slice(0, SHOWN);
  keyed(pods, shown, (one) => String(one.id), createPod, fillPod);
  none.hidden = found.length > 0;
  put(none, lane.pods.length ? 'No pod of this VLAN is found.' : 'No pod is attached.');
  more.hidden = found.length <= SHOWN;
  put(more, all ? `Show ${SHOWN}` : `Show all ${whole(found.length)}`);
}

function networks() {
  const { now } = view;
  const found = new Map();
  const network = (name) => {
    if (!found.has(name)) found.set(name, { name, uplinks: [], lanes: new Map() });
    return found.get(name);
  };
  const lane = (name, vid) => {
    const { lanes } = network(name);
    if (!lanes.has(vid)) lanes.set(vid, { network: name, vid, policy: null, pods: [] });
    return lanes.get(vid);
  };
  for (const uplink of now.uplinks) network(uplink.network).uplinks.push(uplink);
  for (const segment of now.segments) {
    const one = lane(segment.network, segment.vid);
    one.policy = one.policy || segment.policy;
  }
  for (const one of now.attachments) for (const vid of one.vids) lane(one.network, vid).pods.push(one);
  const largest = (list) => Math.max(0, ...list.map((one) => Math.max(one.in || 0, one.out || 0)));
  view.topUplink = largest(now.uplinks);
  view.topPod = largest(now.attachments);
  const create = () => {
    const box = make('article', 'network');
    const wire = make('div', 'wire');
    wire.append(make('h2'), make('p', 'kind'), make('div'));
    box.append(wire, make('div', 'lanes'));
    return box;
  };
  keyed($('networks'), [...found.values()], (one) => one.name, create, (box, one) => {
    const [wire, lanes] = box.children;
    put(wire.children[0], one.name);
    const own = one.uplinks.filter((uplink) => uplink.owner).length;
    put(wire.children[1], own ? `${own} VFs of pods` : 'uplink');
    keyed(wire.children[2], one.uplinks.slice(0, 16), (uplink) => uplink.name, createUplink, fillUplink);
    const sorted = [...one.lanes.values()].sort((a, b) => a.vid - b.vid);
    keyed(lanes, sorted, (item) => `${item.network} ${item.vid}`, createLane, fillLane);
  });
}

function drops() {
  const { now } = view;
  const before = (view.before && view.before.drops) || {};
  const most = {};
  const note = (reason, count, where) => {
    if (!most[reason] || count > most[reason].count) most[reason] = { count, where };
  };
  for (const one of now.attachments) {
    for (const [reason, count] of Object.entries(one.ingress_drops)) note(reason, count, `${one.pod} ${one.interface}, towards it`);
    for (const [reason, count] of Object.entries(one.egress_drops)) note(reason, count, `${one.pod} ${one.interface}, from it`);
  }
  for (const one of now.uplinks) for (const [reason, count] of Object.entries(one.drops)) note(reason, count, `uplink ${one.name}`);
  for (const one of now.workers) for (const [reason, count] of Object.entries(one.drops)) note(reason, count, `worker ${one.id}`);
  const rows = Object.entries(now.drops).filter(([, count]) => count > 0).map(([reason, count]) => ({
    reason, count, now: view.before ? rate(count, before[reason] || 0) : null, where: most[reason] ? most[reason].where : 'ports that are gone',
  })).sort((a, b) => (b.now || 0) - (a.now || 0) || b.count - a.count || a.reason.localeCompare(b.reason));
  $('no-drops').hidden = rows.length > 0;
  $('drops').hidden = rows.length === 0;
  table($('drops'), rows, (row) => row.reason, ['', '', 'n', 'n'], (cells, row) => {
    put(cells[0], row.reason);
    put(cells[1], row.where);
    put(cells[2], row.now === null ? '–' : row.now ? scaled(row.now, '') : '0');
    put(cells[3], whole(row.count));
    cells[0].parentNode.classList.toggle('now', row.now > 0);
  });
}

/** Keeps the rows of a table; `fill(cells, row)` writes them. */
function table(element, rows, key, classes, fill) {
  const create = () => {
    const row = make('tr');
    for (const name of classes) row.append(make('td', name));
    return row;
  };
  keyed(element.tBodies[0], rows, (row) => String(key(row)), create, (line, row) => fill(line.cells, row));
}

function workers() {
  const owned = new Map();
  for (const one of view.now.attachments) owned.set(one.worker, (owned.get(one.worker) || 0) + 1);
  table($('workers'), view.now.workers, (one) => one.id, ['', '', '', 'n'], (cells, worker) => {
    put(cells[0], String(worker.id));
    put(cells[1], worker.core === null ? 'not pinned' : String(worker.core));
    if (!cells[2].firstChild) {
      const box = make('div', 'busycell'), bar = make('div', 'bar busy');
      bar.append(make('i'));
      box.append(bar, make('span', 'n'));
      cells[2].append(box);
    }
    const [bar, text] = cells[2].firstChild.children;
    bar.firstChild.style.width = `${100 * (worker.busy || 0)}%`;
    bar.classList.toggle('hot', worker.busy > 0.95);
    put(text, worker.busy === null ? '–' : `${Math.round(100 * worker.busy)} %`);
    put(cells[3], whole(owned.get(worker.id) || 0));
  });
  keyed($('parts'), view.now.parts, (part) => part.name, () => make('li'), (line, part) => {
    line.className = part.ready ? '' : 'bad';
    put(line, `${part.name}: ${part.ready ? 'ready' : part.problem || 'not ready'}${part.restarts ? `, started again ${part.restarts} times` : ''}`);
  });
}

// --- polling

function draw() {
  if (!view.now) return;
  view.filter = $('filter').value.trim().toLowerCase();
  header();
  problems(view.failed ? [view.failed, ...view.now.problems] : view.now.problems);
  networks();
  drops();
  workers();
}

async function poll() {
  try {
    const answer = await fetch('api/node', { cache: 'no-store' });
    if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
    const now = await answer.json();
    view.before = view.now;
    view.now = now;
    view.failed = null;
    index();
    tiles();
  } catch (error) {
    view.failed = `The agent does not answer (${error.message}): what is shown is as it was.`;
    if (!view.now) problems([view.failed]);
  }
  draw();
}

async function run() {
  if (!view.paused && !document.hidden) await poll();
  setTimeout(run, EVERY_MS);
}

$('filter').addEventListener('input', draw);
$('sort').addEventListener('change', draw);
function pause() {
  view.paused = !view.paused;
  $('pause').setAttribute('aria-pressed', String(view.paused));
  put($('pause'), view.paused ? 'Go on' : 'Pause');
  draw();
}
$('pause').addEventListener('click', pause);
document.addEventListener('keydown', (event) => {
  if (event.target.matches('input, select') || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === '/') { event.preventDefault(); $('filter').focus(); }
  if (event.key === 'p') pause();
});
run();
