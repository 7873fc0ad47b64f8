// What a page has to know of a network: from the card in its .tflite file, or from a JSON file beside it.

import {partOf} from './archive.js';
import {Problem} from './problem.js';

const CARD = 'card.json';  // in the archive behind the file
const EVALUATED_SHARE = 0.875;  // of a photograph's shorter side, where a card's `resize` is "photographs"

/**
 * What is known of a network: {title, labels, height, width, channels, scale, mean, std, channel_order, takes_pixels,
 * crop_fraction, resize, ink, activation}, and `source`, where it stands. The JSON beside the file, of build.py,
 * knows more than the card, and comes first. A card does not know `activation`.
 *
 * @param {string} name of the .tflite file, for messages
 * @param {Uint8Array} bytes of the .tflite file
 * @param {?string} json text of the file beside it
 */
export function describe(name, bytes, json) {
  if (String.fromCharCode(...bytes.subarray(4, 8)) !== 'TFL3') {
    throw new Problem(`${name} is no .tflite file. Open one that export_tflite wrote.`);
  }
  if (json !== null) return checked(name, '.json', parsed(name, '.json', json), 'Write it with build.py --network.');
  const card = partOf(name, bytes, CARD);
  if (card === null) {
    throw new Problem(`${name} has no card that says what it takes and gives. Export it with export_tflite(..., `
      + 'card=card), or open it together with the .json that build.py --network wrote.');
  }
  const {class_names: labels, image_shape: input_shape, ...others} = parsed(name, 'card', card) ?? {};
  const {mean, std, takes_pixels, resize} = others;
  const cut = resize === 'photographs' ? {resize: 'crop', crop_fraction: EVALUATED_SHARE} : {resize};
  const known = {labels, input_shape, mean, std, takes_pixels, ...cut};
  return checked(name, 'card', known, 'Export it again with its card.');
}

function parsed(name, source, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(`The ${source} of ${name} is no JSON. `
      + (source === 'card' ? 'Export it again with its card.' : 'Open the one that build.py --network wrote.'));
  }
}

function checked(name, source, description, fix) {
  const areNumbers = (values, length) => Array.isArray(values) && values.length === length
    && values.every(Number.isFinite);
  const {labels, input_shape: shape, mean, std} = description ?? {};
  if (!Array.isArray(labels) || !labels.length) throw new Problem(`The ${source} of ${name} has no labels. ${fix}`);
  if (!areNumbers(shape, 3) || ![1, 3].includes(shape[2]) || ![mean, std].every((each) => areNumbers(each, shape[2]))) {
    const place = source === 'card' ? 'image_shape' : 'input_shape';
    throw new Problem(`The ${source} of ${name} lacks ${place}, or mean and std of each channel. ${fix}`);
  }
  const [height, width, channels] = shape;
  const others = {title: name, scale: 1 / 255, crop_fraction: 1, resize: 'crop', takes_pixels: false};
  return {...others, ...description, height, width, channels, source};
}
