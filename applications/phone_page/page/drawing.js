// A finger, a pen or a mouse draws light lines on a black square.

const LINE = 1 / 11;  // its width, of the square's

/**
 * @param {HTMLCanvasElement} canvas to draw on
 * @param {(isDone: boolean) => void} changed called when a line grows, and when it is done
 * @returns {{clear: () => void, isEmpty: () => boolean}}
 */
export function drawingOn(canvas, changed) {
  const context = canvas.getContext('2d', {willReadFrequently: true});
  let isEmpty = true, from = null;

  const clear = () => {
    context.fillStyle = 'black';
    context.fillRect(0, 0, canvas.width, canvas.height);
    isEmpty = true;
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
  };
  const lineTo = (to) => {
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    from = to;
  };

  Object.assign(context, {strokeStyle: 'white', lineWidth: LINE * canvas.width, lineCap: 'round', lineJoin: 'round'});
  canvas.addEventListener('pointerdown', (event) => {
    if (!event.isPrimary) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    from = place(event);
    isEmpty = false;
    lineTo(from);  // a dot
    changed(false);
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!from || !event.isPrimary) return;
    for (const step of event.getCoalescedEvents?.() ?? []) lineTo(place(step));
    lineTo(place(event));
    changed(false);
  });
  for (const end of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(end, (event) => {
      if (!from || !event.isPrimary) return;
      from = null;
      changed(true);
    });
  }
  clear();
  return {clear, isEmpty: () => isEmpty};
}
