// Networks in LiteRT.js: what is known of them, whether a file fits, its scores, and how long it takes.

import {Problem} from './problem.js';

const WARM_UP = 400;  // milliseconds in which the browser compiles what it runs often
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
 * What a page has to know of a network: {title, labels, height, width, channels, scale, mean, std, channel_order,
 * crop_fraction, ink, activation}. It stands in a JSON file beside the .tflite, which build.py writes.
 *
 * @param {string} name of the .tflite file, for messages
 * @param {Uint8Array} bytes of the .tflite file
 * @param {?string} json text of the file beside it
 */
export function describe(name, bytes, json) {
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== 'TFL3') {
    throw new Problem(`${name} is no .tflite file. Open one that export_tflite wrote.`);
  }
  if (json === null) {
    throw new Problem(`${name} came without labels. Open it together with the .json that build.py --network wrote.`);
  }
  let description;
  try {
    description = JSON.parse(json);
  } catch {
    throw new Problem(`The .json of ${name} is no JSON. Open the one that build.py --network wrote.`);
  }
  const areNumbers = (values, length) => Array.isArray(values) && values.length === length && values.every(Number.isFinite);
  const {labels, input_shape: shape, mean, std} = description ?? {};
  if (!Array.isArray(labels) || !labels.length) {
    throw new Problem(`The .json of ${name} has no labels. Give build.py --network the labels and open what it writes.`);
  }
  if (!areNumbers(shape, 3) || ![1, 3].includes(shape[2]) || ![mean, std].every((each) => areNumbers(each, shape[2]))) {
    throw new Problem(`The .json of ${name} lacks input_shape, or mean and std of each channel. Write it with `
      + 'build.py --network.');
  }
  const [height, width, channels] = shape;
  return {title: name, scale: 1 / 255, crop_fraction: 1, ...description, height, width, channels};
}

/**
 * A network, ready to run.
 *
 * @param {string} name of the file, for messages
 * @param {Uint8Array} bytes of the .tflite file
 * @param {?string} json text of the file beside it
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
  await network.warmUp();
  return network;
}

function check(name, model, {height, width, channels, labels}) {
  const [inputs, outputs] = [model.getInputDetails(), model.getOutputDetails()];
  const takes = inputs.map(({dtype, shape}) => `${dtype} ${[...shape].join(' x ')}`).join(' and ');
  const expected = `float32 1 x ${height} x ${width} x ${channels}`;
  if (takes !== expected) {
    throw new Problem(`${name} takes ${takes}, and its .json says ${expected}. Write both anew with build.py --network.`);
  }
  const gives = outputs.map(({dtype, shape}) => `${dtype} ${[...shape].join(' x ')}`).join(' and ');
  if (gives !== `float32 1 x ${labels.length}`) {
    throw new Problem(`${name} gives ${gives}, and its .json has ${labels.length} labels. Give build.py --network a `
      + 'label for each output.');
  }
}

class Network {
  constructor(description, size, model) {
    this.description = description;
    this.size = size;  // of the file, in bytes
    this.model = model;
    this.times = [];
  }

  /** Probabilities of the labels, in their order. */
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

  async warmUp() {
    const {height, width, channels} = this.description;
    const values = new Float32Array(height * width * channels);
    for (const until = performance.now() + WARM_UP; performance.now() < until;) await this.probabilities(values);
    this.times = [];
  }
}

function softmax(scores) {
  const largest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
