// The device's camera in a <video>, and what to do where there is none.

import {Problem} from './problem.js';

const OTHERWISE = 'Or choose File: a phone offers to take a photograph there.';
const REASONS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser's settings and choose Camera again.",
  NotFoundError: 'No camera was found. Connect one and choose Camera again.',
  NotReadableError: 'The camera is in use. Close the program that uses it and choose Camera again.',
};

/**
 * @param {HTMLVideoElement} video that shows the camera
 * @returns {{start: () => Promise<void>, stop: () => void, turn: () => Promise<void>}} `turn` changes to the camera on
 *   the other side of the device
 */
export function cameraIn(video) {
  let facing = 'environment', starts = 0;

  const stop = () => {
    starts += 1;  // whatever is still starting comes too late
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  };
  const start = async () => {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Problem(`The camera needs a page from https or from localhost. Open the page from there. ${OTHERWISE}`);
    }
    stop();
    const mine = starts;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: {ideal: facing}}});
    } catch (error) {
      const reason = REASONS[error.name] ?? `The camera did not start (${error.message || error.name}). Choose Camera again.`;
      throw new Problem(`${reason} ${OTHERWISE}`);
    }
    if (mine !== starts) {
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    video.srcObject = stream;
    await video.play();
  };
  const turn = () => {
    facing = facing === 'environment' ? 'user' : 'environment';
    return start();
  };
  return {start, stop, turn};
}
