// Use a built page as a viewer does, in a headless Chromium on a screen of 390 x 844, and print what it shows as JSON.
//
//   node in_browser.mjs < job.json
//
// The job names `chromium`, the command that serves the page (`serve`, its last argument the port), and what to use:
// `pictures`, `handwriting`, `white` (paths of images), `lines` (of a drawing, in shares of the canvas), `second` (files
// of a network), `alone` (.tflite files, by what the answers are called), `problems` (files by the input that they are given to) and `screenshots` (a folder, or null).

import {spawn} from 'node:child_process';
import {readFileSync} from 'node:fs';
import path from 'node:path';
import {chromium} from 'playwright-core';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const PHONE = {viewport: {width: 390, height: 844}, deviceScaleFactor: 2, isMobile: true, hasTouch: true};

const job = JSON.parse(readFileSync(0, 'utf8'));
const address = `http://127.0.0.1:${job.serve.at(-1)}/`;
const origins = new Set();
const failures = [];

// --- what a viewer does -----------------------------------------------------------------------------------------------
async function open(browser, options = {}, prepare = null) {
  const context = await browser.newContext({...PHONE, ...options});
  const page = await context.newPage();
  page.on('request', (request) => origins.add(new URL(request.url()).origin));
  page.on('pageerror', (error) => failures.push(error.message));
  if (prepare) await page.addInitScript(prepare);
  await page.goto(address);
  return page;
}

const isReady = (page) => page.waitForFunction(() => document.querySelector('#offline').textContent);
const source = (page, name) => page.check(`#sources [value=${name}]`);
const problem = async (page) => {
  await page.waitForSelector('#problem:not([hidden])');
  return page.textContent('#problem');
};

/** What the page says once it is done: `said` is written last, for still pictures. */
async function answers(page, act) {
  await page.evaluate(() => { document.querySelector('#said').textContent = ''; });
  await act();
  await page.waitForFunction(() => document.querySelector('#said').textContent);
  return shown(page);
}

const shown = (page) => page.$$eval('.panel', (panels) => panels.map((panel) => {
  const canvas = panel.querySelector('canvas');
  const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return {
    network: panel.querySelector('select').value,
    seen: [canvas.height, canvas.width, [...data]],
    answers: [...panel.querySelectorAll('li')].map((line) =>
      [line.querySelector('span').textContent, line.querySelector('data').value, line.querySelector('data').textContent]),
    time: panel.querySelector('.time').textContent,
  };
}));

async function draw(page, lines) {
  const finger = await page.context().newCDPSession(page);
  const box = await page.locator('#drawing').boundingBox();
  const at = ([x, y]) => ({x: box.x + x * box.width, y: box.y + y * box.height});
  for (const [first, ...others] of lines) {
    await finger.send('Input.dispatchTouchEvent', {type: 'touchStart', touchPoints: [at(first)]});
    for (const point of others) {
      await finger.send('Input.dispatchTouchEvent', {type: 'touchMove', touchPoints: [at(point)]});
    }
    await finger.send('Input.dispatchTouchEvent', {type: 'touchEnd', touchPoints: []});
  }
}

const screenshot = async (page, name) => {
  if (job.screenshots) await page.screenshot({path: path.join(job.screenshots, `${name}.png`)});
};

// --- what is tried ----------------------------------------------------------------------------------------------------
async function drawing(page) {
  const said = await answers(page, () => draw(page, job.lines));
  const canvas = await page.$eval('#drawing', (element) => element.toDataURL());
  await screenshot(page, 'drawing');
  const widths = [];
  for (const width of [320, 390]) {
    await page.setViewportSize({width, height: 844});
    widths.push(await page.evaluate(() => document.documentElement.scrollWidth));
  }
  await page.click('#clear');
  await page.waitForFunction(() => !document.querySelector('li'));
  return {said, canvas, widths};
}

async function pictures(page) {
  await page.emulateMedia({colorScheme: 'dark'});
  await source(page, 'file');
  const of = {};
  for (const file of job.pictures) {
    of[file] = await answers(page, () => page.setInputFiles('#choose', file));
    if (file === job.pictures[0]) await screenshot(page, 'file');
  }
  await page.check('#handwriting input');
  const handwriting = await answers(page, () => page.setInputFiles('#choose', job.handwriting));
  const no_ink = await answers(page, () => page.setInputFiles('#choose', job.white));
  await page.uncheck('#handwriting input');
  return {of, handwriting, no_ink};
}

async function comparing(page) {
  await page.selectOption('.panel:nth-child(1) select', {index: 1});
  const same = await answers(page, () => page.setInputFiles('#choose', job.pictures[0]));
  const own = await answers(page, () => page.setInputFiles('#open', job.second));
  const alone = {};
  for (const [name, file] of Object.entries(job.alone)) {
    alone[name] = (await answers(page, () => page.setInputFiles('#open', file)))[1];
  }
  return {same, own, alone};
}

async function problems(page) {
  const messages = {};
  for (const [name, {input, files}] of Object.entries(job.problems)) {
    await page.setInputFiles(`#${input}`, files);
    messages[name] = await problem(page);
  }
  messages.after = (await answers(page, () => page.setInputFiles('#choose', job.pictures[0])))[0].answers[0];
  await source(page, 'camera');
  messages.no_camera = await problem(page);
  await screenshot(page, 'no_camera');
  const insecure = await open(browser, {}, () => Object.defineProperty(navigator, 'mediaDevices', {value: undefined}));
  await isReady(insecure);
  await source(insecure, 'camera');
  messages.insecure = await problem(insecure);
  const old = await open(browser, {}, () => { WebAssembly.validate = () => false; });
  messages.no_simd = await problem(old);
  return messages;
}

async function camera() {
  const withCamera = await chromium.launch({executablePath: job.chromium,
    args: [...FLAGS, '--use-fake-device-for-media-stream']});
  try {
    const refused = await open(withCamera);
    await isReady(refused);
    await source(refused, 'camera');
    const denied = await problem(refused);

    const page = await open(withCamera, {permissions: ['camera']});
    await isReady(page);
    await source(page, 'camera');
    await page.waitForFunction(() => document.querySelector('.panel:nth-child(2) li'));
    const [, second] = await shown(page);
    await page.click('#turn');
    await page.waitForFunction(() => document.querySelector('#camera').srcObject?.active);
    await screenshot(page, 'camera');
    const track = await page.evaluateHandle(() => document.querySelector('#camera').srcObject.getTracks()[0]);
    await source(page, 'drawing');
    const after = await track.evaluate(({readyState}) => readyState);
    return {denied, second, after};
  } finally {
    await withCamera.close();
  }
}

async function offline(page) {
  const said = await page.textContent('#offline');
  await stop();
  await page.reload();
  const drawn = await answers(page, async () => {
    await isReady(page);
    await draw(page, job.lines);
  });
  return {said, drawn};
}

// --- serve, try, print ------------------------------------------------------------------------------------------------
const server = spawn(job.serve[0], job.serve.slice(1), {stdio: 'ignore'});
const stop = () => new Promise((resolve) => {
  if (server.exitCode !== null || server.signalCode !== null) return resolve();
  server.once('exit', resolve);
  server.kill();
});
while (!await fetch(address).then(({ok}) => ok, () => false)) await new Promise((resolve) => setTimeout(resolve, 50));

const browser = await chromium.launch({executablePath: job.chromium, args: FLAGS});
const results = {};
try {
  const page = await open(browser);
  await isReady(page);
  for (const part of [drawing, pictures, comparing, problems, camera, offline]) results[part.name] = await part(page);
} finally {
  await browser.close();
  await stop();
}
console.log(JSON.stringify({...results, origins: [...origins], failures}));
