// Networks in LiteRT.js: whether a file fits what is known of it, its scores, and how long it takes.

import {describe} from './description.js';
import {inputsOf} from './pixels.js';
import {Problem} from './problem.js';

const WARM_UP = 400;  // milliseconds in which the browser compiles what it runs often
const TRIED = 4;  // pictures by which a network is known to give probabilities
const RUNS = 20;  // that count for the milliseconds
const LONGEST = 100;  // milliseconds that they may take, of a picture that stands still

// the least module with an instruction of 128 bits
const SIMD = new Uint8Array(
  [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);

let litert;

/**
 * Load LiteRT.js, once.
 *
 * @returns {Promise<string[]>} the files that this browser runs it from
 */
export async function loadRuntime() {
  if (!globalThis.WebAssembly?.validate(SIMD)) {
    throw new Problem('This browser has no WebAssembly SIMD, which the networks run on. Update it; on an iPhone in '
      + 'Lockdown Mode, allow this page in the settings.');
  }
  try {
    litert = await import('@litertjs/core');
    const build = await litert.supportsFeature('relaxedSimd') ? 'litert_wasm_internal' : 'litert_wasm_compat_internal';
    const files = ['js', 'wasm'].map((ending) => `litert/wasm/${build}.${ending}`);
    await litert.loadLiteRt(files[0]);
    return files;
  } catch (error) {
    throw new Problem(`LiteRT.js did not load (${error.message ?? error}). Reload the page; if that does not help, `
      + 'update the browser or build the page again.');
  }
}

/**
 * A network, ready to run.
 *
 * @param {string} name of the file, for messages
 * @param {Uint8Array} bytes of the .tflite file
 * @param {?string} json text of the file beside it; null if only the card in the file says what it takes and gives
 */
export async function openNetwork(name, bytes, json) {
  const description = describe(name, bytes, json);
  let model;
  try {
    model = await litert.loadAndCompile(bytes, {accelerator: 'wasm'});
  } catch (error) {
    throw new Problem(`LiteRT.js can't run ${name} (${error.message ?? error}). Export it again with `
      + 'export_tflite(model, path, target="wasm").');
  }
  try {
    check(name, model, description);
  } catch (problem) {
    model.delete();
    throw problem;
  }
  const network = new Network(description, bytes.length, model);
  await network.findActivation();
  await network.warmUp();
  return network;
}

function check(name, model, {height, width, channels, labels, takes_pixels: takesPixels, source}) {
  const fix = source === 'card' ? 'Export it again with its card.' : 'Write both anew with build.py --network.';
  const said = (details) => details.map(({dtype, shape}) => `${dtype} ${[...shape].join(' x ')}`).join(' and ');
  const [takes, gives] = [said(model.getInputDetails()), said(model.getOutputDetails())];
  const expected = `${takesPixels ? 'uint8' : 'float32'} 1 x ${height} x ${width} x ${channels}`;
  if (takes !== expected) throw new Problem(`${name} takes ${takes}, and its ${source} says ${expected}. ${fix}`);
  if (gives !== `float32 1 x ${labels.length}`) {
    throw new Problem(`${name} gives ${gives}, and its ${source} has ${labels.length} labels. ${fix}`);
  }
}

class Network {
  constructor(description, size, model) {
    this.description = description;
    this.size = size;  // of the file, in bytes
    this.model = model;
    this.times = [];
  }

  /**
   * Probabilities of the labels, in their order.
   *
   * @param {Float32Array|Uint8Array} values of one image (pixels.js)
   */
  async probabilities(values) {
    const {height, width, channels, activation} = this.description;
    const input = new litert.Tensor(values, [1, height, width, channels]);
    const before = performance.now();
    const [output] = await this.model.run([input]);
    this.times = [...this.times, performance.now() - before].slice(-RUNS);
    const scores = output.toTypedArray();
    input.delete();
    output.delete();
    return activation === 'softmax' ? softmax(scores) : scores;
  }

  /** Milliseconds of an inference, a mean, since browsers round their clocks to as much as a millisecond. */
  get milliseconds() {
    return this.times.reduce((sum, time) => sum + time, 0) / this.times.length;
  }

  /** Run until enough times are known, but no longer than somebody would notice. */
  async measure(values) {
    const until = performance.now() + LONGEST;
    for (let run = 0; run < RUNS && performance.now() < until; run++) await this.probabilities(values);
  }

  /** Find out whether the outputs are probabilities, if nobody said so. */
  async findActivation() {
    if (this.description.activation !== undefined) return;
    const scores = [];
    for (let picture = 0; picture < TRIED; picture++) scores.push(await this.probabilities(this.noise(picture)));
    this.description.activation = scores.every(areProbabilities) ? null : 'softmax';
  }

  async warmUp() {
    const values = this.noise(0);
    for (const until = performance.now() + WARM_UP; performance.now() < until;) await this.probabilities(values);
    this.times = [];
  }

  /** A picture of nothing, always the same, as the network takes it. */
  noise(number) {
    const {height, width} = this.description, image = new ImageData(width, height);
    image.data.forEach((_, place) => { image.data[place] = (place + 1) * (2 * number + 1) * 7919 % 256; });
    return inputsOf(image, this.description);
  }
}

function areProbabilities(scores) {
  return scores.every((score) => score >= 0) && Math.abs(scores.reduce((sum, score) => sum + score, 0) - 1) < 1e-3;
}

function softmax(scores) {
  const largest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
