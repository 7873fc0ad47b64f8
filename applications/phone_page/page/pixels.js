// From a picture to the numbers that a network takes. Pure functions, but for the canvas that reads a picture's pixels.

const LARGEST_SIDE = 1024;  // what is larger is first shrunk by the browser: phones' cameras make 50 million pixels
const INK_SIDE = 320;  // pixels of a picture in which handwriting is looked for
const GRAY = [0.2989, 0.587, 0.114];  // shares of red, green and blue, as keras_condense mixes them

/**
 * What a network sees of a picture: in gray if it takes one channel.
 *
 * @param {CanvasImageSource} picture an image, a video or a canvas
 * @param {object} description of the network (network.js)
 * @param {?string} ink 'light' for light ink on black, 'dark' for dark ink on paper, null for any other picture
 * @returns {?ImageData} of the network's size; null if no ink was found
 */
export function seenBy(picture, {height, width, channels, crop_fraction: fraction, resize, ink: cells}, ink) {
  if (ink && cells) {
    const square = middleOf(picture, INK_SIDE, INK_SIDE);
    const found = cellsOfInk(ink === 'dark' ? inkOnPaper(square) : square, cells);
    return found && resized(found, width, height);
  }
  const image = middleOf(picture, width, height, fraction, resize === 'stretch');
  return channels === 1 ? imageOfGray(grayOf(image), width, height) : image;
}

/**
 * The middle of a picture, of the network's proportions or, to be stretched, of its own, resized to the network's size.
 *
 * @param {CanvasImageSource} picture an image, a video or a canvas
 * @param {number} fraction how much of the largest possible middle is taken, in (0, 1]
 * @param {boolean} stretch whether the picture's proportions are not kept
 * @returns {ImageData} of `width` x `height` pixels
 */
export function middleOf(picture, width, height, fraction = 1, stretch = false) {
  const [wide, high] = sizeOf(picture);
  const scale = Math.min(wide / width, high / height);
  const sides = stretch ? [wide, high] : [scale * width, scale * height];
  const [cutWide, cutHigh] = sides.map((side) => Math.round(fraction * side));
  const shrink = Math.min(1, LARGEST_SIDE / Math.max(cutWide, cutHigh));
  const [readWide, readHigh] = [cutWide, cutHigh].map((side) => Math.max(1, Math.round(side * shrink)));
  const canvas = new OffscreenCanvas(readWide, readHigh);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.imageSmoothingQuality = 'high';
  context.fillStyle = 'white';  // below what is transparent
  context.fillRect(0, 0, readWide, readHigh);
  const left = Math.floor((wide - cutWide) / 2), top = Math.floor((high - cutHigh) / 2);
  context.drawImage(picture, left, top, cutWide, cutHigh, 0, 0, readWide, readHigh);
  return resized(context.getImageData(0, 0, readWide, readHigh), width, height);
}

function sizeOf(picture) {
  return [picture.videoWidth || picture.naturalWidth || picture.width,
    picture.videoHeight || picture.naturalHeight || picture.height];
}

/**
 * An image in another size: weighted means of the pixels around, as tf.image.resize(antialias=True) computes them, so
 * that every browser gives the pixels that the networks were trained on.
 */
export function resized(image, width, height) {
  if (image.width === width && image.height === height) return image;
  const rows = means(image.data, image.height, image.width * 4, 4, tapsOf(image.width, width));  // along each row
  const all = means(rows, width, 4, width * 4, tapsOf(image.height, height));  // along each column
  const result = new ImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < 4; channel++) {
        result.data[4 * (y * width + x) + channel] = all[4 * (x * height + y) + channel];
      }
    }
  }
  return result;
}

/** For each line, one line of weighted means; pixels of 4 channels, `step` apart, lines `apart`. */
function means(values, lines, apart, step, taps) {
  const result = new Float32Array(lines * taps.length * 4);
  for (let line = 0; line < lines; line++) {
    taps.forEach(({first, weights}, place) => {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++) {
          sum += weights[tap] * values[line * apart + (first + tap) * step + channel];
        }
        result[4 * (line * taps.length + place) + channel] = sum;
      }
    });
  }
  return result;
}

/** Which of `old` pixels count in each of `now` ones, and how much: a triangle as wide as the wider of the two. */
function tapsOf(old, now) {
  const step = old / now, reach = Math.max(step, 1);
  return Array.from({length: now}, (_, place) => {
    const center = (place + 0.5) * step;
    const first = Math.max(Math.ceil(center - reach - 0.5), 0);
    const last = Math.min(Math.floor(center + reach - 0.5), old - 1);
    const weights = Array.from({length: last - first + 1},
      (_, tap) => Math.max(1 - Math.abs(first + tap + 0.5 - center) / reach, 0));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return {first, weights: weights.map((weight) => weight / sum)};
  });
}

/** Brightness of each pixel, 0..255, rounded. */
export function grayOf(image) {
  return Uint8Array.from({length: image.width * image.height}, (_, place) => Math.round(
    GRAY.reduce((sum, share, channel) => sum + share * image.data[4 * place + channel], 0)));
}

function imageOfGray(gray, width, height) {
  const image = new ImageData(width, height);
  gray.forEach((value, place) => image.data.set([value, value, value, 255], 4 * place));
  return image;
}

/**
 * Dark handwriting on light paper as light ink on black: half of the way from the paper to the darkest ink is ink.
 */
export function inkOnPaper(image) {
  const gray = grayOf(image), sorted = Uint8Array.from(gray).sort();
  const paper = sorted[sorted.length >> 1], darkest = sorted[Math.floor(sorted.length / 200)];
  const limit = (paper + darkest) / 2;
  return imageOfGray(gray.map((value) => (value < limit && paper - darkest > 40 ? 255 : 0)), image.width, image.height);
}

/**
 * Light ink made as the images of a set of handwriting were: cut to the ink, scaled to a square bitmap, and counted in
 * its cells.
 *
 * @param {ImageData} image light ink on black
 * @param {{bitmap: number, cells: number}} ink sides of the bitmap, and of the image of its cells
 * @returns {?ImageData} of `cells` x `cells` pixels, white where a cell is full; null without ink
 */
export function cellsOfInk(image, {bitmap, cells}) {
  const gray = grayOf(image);
  const isInk = (x, y) => x >= 0 && y >= 0 && x < image.width && y < image.height && gray[y * image.width + x] > 127;
  let [left, top, right, bottom] = [image.width, image.height, -1, -1];
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x++) {
      if (!isInk(x, y)) continue;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    }
  }
  if (right < 0) return null;
  const counts = new Float32Array(cells * cells);
  const side = Math.max(right - left, bottom - top) + 1, each = cells / bitmap;
  const x0 = (left + right + 1 - side) / 2, y0 = (top + bottom + 1 - side) / 2;
  for (let y = 0; y < bitmap; y++) {
    for (let x = 0; x < bitmap; x++) {
      const [column, row] = [x0 + (x + 0.5) * side / bitmap, y0 + (y + 0.5) * side / bitmap].map(Math.floor);
      if (isInk(column, row)) counts[Math.floor(y * each) * cells + Math.floor(x * each)] += 1;
    }
  }
  const full = (bitmap / cells) ** 2;
  return imageOfGray(Uint8Array.from(counts, (count) => Math.round(255 * count / full)), cells, cells);
}

/**
 * The numbers that a network takes: (pixel * scale - mean) / std, pixel by pixel, or pixels as they are.
 *
 * @param {ImageData} image of the network's size, gray if it takes one channel
 * @returns {Float32Array|Uint8Array} height x width x channels; bytes if the network takes pixels
 */
export function inputsOf(image, {channels, scale, mean, std, channel_order: order, takes_pixels: takesPixels}) {
  const pixels = Uint8Array.from({length: image.width * image.height * channels}, (_, place) => {
    const channel = place % channels, pixel = (place - channel) / channels;
    return image.data[4 * pixel + (order === 'bgr' ? 2 - channel : channel)];
  });
  if (takesPixels) return pixels;
  return Float32Array.from(pixels, (value, place) => (value * scale - mean[place % channels]) / std[place % channels]);
}
