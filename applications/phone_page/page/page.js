// The page: where the picture comes from, which networks look at it, and what is said of it.

import {cameraIn} from './camera.js';
import {drawingOn} from './drawing.js';
import {loadRuntime, openNetwork} from './network.js';
import {keep} from './offline.js';
import {Panel} from './panel.js';
import {seenBy} from './pixels.js';
import {Problem} from './problem.js';

const BETWEEN_FRAMES = 60;  // milliseconds, in which the device can do something else
const FOLDER = 'networks';

const find = (selector) => document.querySelector(selector);
const [problemLine, said, hint, handwriting, picture, video] =
  ['#problem', '#said', '#hint', '#handwriting', '#file', '#camera'].map(find);
const HINTS = {drawing: 'Draw here with a finger', file: 'No picture yet', camera: 'The camera is not running'};

const networks = [];  // {name, title, load}, as the lists show them
const panels = [];
const isHandwriting = {file: false, camera: true};
let source = 'drawing';

const camera = cameraIn(video);
const drawing = drawingOn(find('#drawing'), update);
const pictures = {
  drawing: () => (drawing.isEmpty() ? null : find('#drawing')),
  file: () => (picture.naturalWidth ? picture : null),
  camera: () => (video.srcObject && video.videoWidth ? video : null),
};

// --- what the viewer is told ------------------------------------------------------------------------------------------
function tell(error) {
  problemLine.textContent = error instanceof Problem ? error.message
    : `Something went wrong (${error.message ?? error}). Reload the page.`;
  problemLine.hidden = false;
}

/** Do what a viewer asked for; the last problem is over, and a new one is told. */
async function attempt(action) {
  problemLine.hidden = true;
  try {
    await action();
  } catch (error) {
    tell(error);
  }
}

// --- looking ----------------------------------------------------------------------------------------------------------
let isLooking = false, next = null;

/** Show the picture as it is now to all networks; while they compute, no more than the last wish is kept. */
async function update(isStill = true) {
  next = {isStill};
  if (isLooking) return;
  isLooking = true;
  try {
    while (next) {
      const {isStill} = next;
      next = null;
      await look(isStill);
    }
  } catch (error) {
    tell(error);
  } finally {
    isLooking = false;
  }
}

async function look(isStill) {
  const seen = pictures[source]();
  hint.hidden = Boolean(seen);
  const ink = source === 'drawing' ? 'light' : isHandwriting[source] ? 'dark' : null;
  const answers = [];
  for (const panel of panels.filter(({network}) => network)) {
    const image = seen && seenBy(seen, panel.network.description, ink);
    if (image) answers.push(await panel.show(image, isStill));
    else panel.clear(seen ? 'No ink found' : '');
  }
  if (isStill) said.textContent = answers.join('. ');
}

/** Look at what the camera shows, again and again. */
async function watch() {
  const stream = video.srcObject;
  while (stream && video.srcObject === stream) {
    await update(false);
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_FRAMES));
    await new Promise(requestAnimationFrame);  // which waits while the page is hidden
  }
}

// --- where the picture comes from -------------------------------------------------------------------------------------
async function choose(name) {
  source = name;
  camera.stop();
  for (const [key, element] of Object.entries({drawing: find('#drawing'), file: picture, camera: video})) {
    element.hidden = key !== name || (key === 'file' && !picture.naturalWidth);
  }
  for (const row of document.querySelectorAll('[data-for]')) row.hidden = row.dataset.for !== name;
  hint.textContent = HINTS[name];
  offerHandwriting();
  update();
  if (name === 'camera') await run(camera.start);
}

async function run(start) {
  await start();
  watch();
}

async function openPicture(file) {
  if (!file) return;
  const url = URL.createObjectURL(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    throw new Problem(`${file.name} is no picture that this browser can read. Choose a PNG, a JPEG or a WebP`
      + `${/\.(tflite|json)$/.test(file.name) ? ', and networks under Open a network' : ''}.`);
  }
  URL.revokeObjectURL(picture.src);
  picture.src = url;
  await picture.decode();
  picture.hidden = false;
  update();
}

/** Handwriting on paper is a question only where a network was trained on ink. */
function offerHandwriting() {
  const readers = panels.map(({network}) => network).filter((network) => network?.description.ink);
  handwriting.hidden = source === 'drawing' || readers.length === 0;
  find('#readers').textContent = [...new Set(readers.map(({description}) => description.title))].join(', ');
  handwriting.querySelector('input').checked = Boolean(isHandwriting[source]);
}

// --- networks ---------------------------------------------------------------------------------------------------------
function offer() {
  const titles = networks.map(({title}) => title);
  panels.forEach((panel, number) => panel.offer(titles, panel.selected ?? Math.min(number, titles.length - 1)));
}

async function select(panel, number) {
  const entry = networks[number];
  entry.network ??= entry.load();
  try {
    const network = await entry.network;
    panel.selected = number;
    panel.take(network);
  } catch (error) {
    entry.network = null;  // it may load the next time
    throw error;
  } finally {
    offer();
  }
  offerHandwriting();
  update();
}

async function fetched(url) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new Problem(`${url} could not be loaded. Connect to the network and reload the page.`);
  return response;
}

async function listNetworks() {
  for (const {name, title} of await (await fetched(`${FOLDER}/index.json`)).json()) {
    const place = `${FOLDER}/${encodeURIComponent(name)}`;
    const load = async () => openNetwork(`${name}.tflite`,
      new Uint8Array(await (await fetched(`${place}.tflite`)).arrayBuffer()),
      await (await fetched(`${place}.json`)).text());
    networks.push({title, load});
  }
}

/** Networks of the viewer's own: each .tflite, alone or with the .json of the same name, or the only one. */
async function openFiles(files) {
  const descriptions = files.filter(({name}) => name.endsWith('.json'));
  const models = files.filter((file) => !descriptions.includes(file));
  if (files.length && !models.length) {
    throw new Problem(`${files[0].name} came without its .tflite. Open both together.`);
  }
  for (const model of models) {
    const beside = model.name.replace(/\.[^.]*$/, '.json');
    const json = descriptions.find(({name}) => name === beside)
      ?? (models.length === 1 && descriptions.length === 1 ? descriptions[0] : null);
    const network = await openNetwork(model.name, new Uint8Array(await model.arrayBuffer()), json && await json.text());
    networks.push({title: network.description.title, network});
    await select(panels.at(-1), networks.length - 1);
  }
}

// --- begin ------------------------------------------------------------------------------------------------------------
for (const title of ['First network', 'Second network']) {
  const element = find('#panel').content.cloneNode(true).firstElementChild;
  const panel = new Panel(element, title, (number) => attempt(() => select(panel, number)));
  panels.push(panel);
  find('#panels').append(element);
}
find('#sources').addEventListener('change', ({target}) => attempt(() => choose(target.value)));
find('#sources').addEventListener('click', ({target}) => {  // choosing again what is chosen tries again
  if (target.value === source && source === 'camera' && !video.srcObject) attempt(() => choose(source));
});
find('#clear').addEventListener('click', () => {
  drawing.clear();
  update();
});
find('#choose').addEventListener('change', ({target}) => attempt(() => openPicture(target.files[0])));
find('#turn').addEventListener('click', () => attempt(() => run(camera.turn)));
handwriting.addEventListener('change', ({target}) => {
  isHandwriting[source] = target.checked;
  update();
});
find('#open').addEventListener('change', ({target}) => attempt(() => openFiles([...target.files])));
document.addEventListener('visibilitychange', () => {  // a hidden page has no business with the camera
  if (source !== 'camera') return;
  if (document.hidden) camera.stop();
  else attempt(() => run(camera.start));
});

await attempt(async () => {
  const [runtimeFiles] = await Promise.all([loadRuntime(), listNetworks()]);
  offer();
  for (const [number, panel] of panels.entries()) await select(panel, Math.min(number, networks.length - 1));
  keep(runtimeFiles, (text) => { find('#offline').textContent = text; });
});
