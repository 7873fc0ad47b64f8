// A column of the page: one network, what it sees, what it says and how long it takes.

import {inputsOf} from './pixels.js';

const SHOWN = 5;  // labels

/** A number of bytes, or of milliseconds, with the digits that mean something. */
const written = (number) => (number >= 100 ? Math.round(number) : Number(number.toPrecision(2))).toLocaleString('en');

export class Panel {
  /**
   * @param {HTMLElement} element a copy of the template
   * @param {string} title for those who can't see which column it is
   * @param {(number: number) => void} chosen called with the place of the network that was chosen in the list
   */
  constructor(element, title, chosen) {
    const find = (selector) => element.querySelector(selector);
    this.element = element;
    this.list = find('select');
    this.canvas = find('canvas');
    this.facts = find('.facts');
    this.time = find('.time');
    this.answers = find('.answers');
    this.network = null;
    element.setAttribute('aria-label', title);
    this.list.setAttribute('aria-label', `${title}: network`);
    this.list.addEventListener('change', () => chosen(this.list.selectedIndex));
  }

  /** Offer networks by their titles. */
  offer(titles, selected) {
    this.list.replaceChildren(...titles.map((title) => new Option(title)));
    this.list.selectedIndex = selected;
  }

  take(network) {
    this.network = network;
    const {height, width, channels} = network.description;
    Object.assign(this.canvas, {width, height});
    this.facts.textContent =
      `${width} × ${height}\n${channels === 1 ? 'gray' : 'colour'}\n${written(network.size / 1000)} kB`;
    this.clear();
  }

  /** Show nothing, and say why. */
  clear(why = '') {
    this.canvas.getContext('2d').clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.answers.replaceChildren();
    this.time.textContent = why;
  }

  /**
   * Run the network and show what comes out.
   *
   * @param {ImageData} image of the network's size
   * @param {boolean} isStill whether there is time to measure
   * @returns {Promise<string>} what the network says, in words
   */
  async show(image, isStill) {
    const {network} = this;
    const values = inputsOf(image, network.description);
    const probabilities = await network.probabilities(values);
    if (isStill) await network.measure(values);
    const best = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]).slice(0, SHOWN);
    this.canvas.getContext('2d').putImageData(image, 0, 0);
    this.answers.replaceChildren(...best.map((label) => line(network.description.labels[label], probabilities[label])));
    this.time.textContent = `${written(network.milliseconds)} ms`;
    return `${network.description.title}: ${network.description.labels[best[0]]}, ${percent(probabilities[best[0]])}`;
  }
}

const percent = (share) => `${(100 * share).toFixed(share >= 0.9995 ? 0 : 1)} %`;

function line(label, probability) {
  const item = document.createElement('li');
  const [name, value] = [document.createElement('span'), document.createElement('data')];
  name.textContent = name.title = label;
  value.textContent = percent(probability);
  value.value = probability;
  item.style.setProperty('--share', probability);
  item.append(name, value);
  return item;
}
